// Starts the page.

async function start() {
  const begun = performance.now();
  await startRuntime();
  const [training, test] = await Promise.all([PAGE.images.training, PAGE.images.test].map(imagesOf));
  const cards = PAGE.models.map((content) => new (content.books.length ? DiscreteCard : ContinuousCard)(content, training));
  for (const card of cards) await card.load();
  byId("models").append(...cards.map((card) => card.root));
  byId("models").style.setProperty("--columns", Math.min(4, cards.length));
  showLegend();
  for (const id of ["ends", "walk"]) byId(id).hidden = false;
  const walk = new Walk(cards);
  const ends = new Ends(test, cards, (which) => { if (walk.ready) walk.position = which === "a" ? 0 : 1; });
  await ends.start();
  walk.ready = true;
  await walk.show();
  const tour = new Tour(cards, ends, walk);
  byId("tour-start").disabled = false;
  byId("state").hidden = true;
  globalThis.explorer = { cards, ends, walk, tour, training, test, seconds: (performance.now() - begun) / 1000 };
  document.documentElement.dataset.state = "ready";
}

function showLegend() {
  const { few, names, title } = PAGE.images;
  if (!few) return;
  const entries = Object.entries(names).map(([label, name]) => {
    const dot = element("i", { className: "dot" });
    dot.style.background = colourOf(Number(label));
    return element("span", {}, dot, name);
  });
  byId("legend").append(`Training images by ${title || "label"}: `, ...entries);
  byId("legend").hidden = false;
}

start().catch((error) => {
  byId("state").textContent = `This page needs a recent browser with WebAssembly: ${error.message ?? error}`;
  document.documentElement.dataset.state = "failed";
});

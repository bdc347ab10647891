// The guided tour: six steps, each of which sets the page and makes one point.

// The models that steps are about: the first of each kind on the page.
function castOf(cards) {
  const continuous = cards.filter((card) => card instanceof ContinuousCard && card.map);
  const point = continuous.find((card) => !card.ends.a.variance && !card.content.has_prior);
  const clouds = continuous.filter((card) => card.ends.a.variance && card.content.has_prior);
  const cloud = clouds.find((card) => card.content.latent_dim === point?.content.latent_dim) ?? clouds[0];
  const [cheap, dear] = pricedDifferently(cards);
  return { all: cards, point, cloud, cheap, dear };
}

// Two models whose objectives differ and whose KL is known, the lower one first; with equally many dimensions if possible.
function pricedDifferently(cards) {
  const priced = cards.filter((card) => card.content.unit === "nats").sort((a, b) => rateOf(a) - rateOf(b));
  const pairs = priced.flatMap((one, at) => priced.slice(at + 1).map((other) => [one, other]));
  const different = pairs.filter(([one, other]) => one.content.objective !== other.content.objective);
  return different.find(([one, other]) => one.content.latent_dim === other.content.latent_dim) ?? different[0] ?? [];
}

function rateOf(card) {
  return card.content.sliders.reduce((sum, slider) => sum + slider.size, 0);
}

const NEEDED = { point: "an autoencoder without a prior, such as model=ae", cloud: "a VAE, such as model=vae", dear: "two VAEs that weigh the KL differently, such as model=vae and model=beta_vae" };

const TOUR = [
  {
    title: "A code is a suitcase",
    needs: [],
    about: ({ all }) => all,
    text: ({ all }) => `Each encoder packs image A, ${PIXELS} numbers, into its code: ${sizesOf(all)}. Each decoder unpacks the code again, into the large picture. What did not fit is missing: compare the pictures with A.`,
    run: (tour) => { tour.walk.position = 0; },
  },
  {
    title: "What an autoencoder does with codes it never saw",
    needs: ["point"],
    about: ({ point }) => [point],
    text: ({ point }) => `${point.content.name} was trained to unpack the codes of its training images, the coloured points, and nothing else. The cross is now at the widest gap between them. The decoder must answer there too, and nothing has taught it to answer with something that looks like the data. Move across the empty parts of the map.`,
    run: async (tour, { point }) => { await point.go(widestGap(point)); },
  },
  {
    title: "A VAE packs a cloud",
    needs: ["cloud"],
    about: ({ cloud }) => [cloud],
    text: ({ cloud }) => `${cloud.content.name} gives image A no point but a cloud: a mean and a spread. The two ellipses around A are one and two standard deviations of it. In training the decoder gets random points of the cloud, such as those that the cross jumps to now, and all must unpack to A.`,
    run: (tour, { cloud }) => tour.repeat(450, () => cloud.go(drawnFrom(cloud.ends.a))),
  },
  {
    title: "Why the landscape is smooth",
    needs: ["cloud"],
    about: ({ cloud }) => [cloud],
    text: ({ cloud }) => `The clouds of neighbouring images overlap, so one code has to serve several images, and the decoder answers with something between them. The KL term pulls all clouds towards the prior, the dashed circles, which leaves few gaps. On its way around the middle, ${cloud.content.name} turns one image into the next.`,
    run: (tour, { cloud }) => tour.repeat(33, (seconds) => cloud.go(onCircle(cloud, seconds / 8))),
  },
  {
    title: "The same walk through both",
    needs: ["point", "cloud"],
    about: ({ point, cloud }) => [point, cloud],
    text: ({ point, cloud }) => `Both models walk from A to B in a straight line of codes. Watch the pictures in the middle of the way, and on the maps what the line crosses: ${point.content.name} may pass through places where no code was ever seen, ${cloud.content.name} through clouds of other images.`,
    run: (tour) => { tour.walk.position = 0; tour.walk.play(); },
  },
  {
    title: "What beta buys, and what it costs",
    needs: ["dear"],
    about: ({ cheap, dear }) => [cheap, dear],
    text: ({ cheap, dear }) => `The KL term is the price of a code, and beta its weight. ${priceOf(cheap)}; ${priceOf(dear)}. A larger beta buys codes that stay closer to the prior, often with fewer dimensions in use. It costs detail: compare both pictures of A.`,
    run: (tour) => { tour.walk.position = 0; },
  },
];

function sizesOf(cards) {
  return cards.map(({ content }) => {
    const count = content.books.reduce((sum, book) => sum + book.height * book.width, 0);
    return `${content.name} ${count ? `${count} indices` : `${content.latent_dim} numbers`}`;
  }).join(", ");
}

function priceOf(card) {
  const used = card.content.sliders.filter((slider) => slider.used).length;
  const psnr = card.content.metrics.find((text) => text.startsWith("PSNR"));
  return `${card.content.name} (${card.content.objective}) spends ${rateOf(card).toFixed(1)} nats on an image and uses ${used} of ${card.content.sliders.length} dimensions${psnr ? `, for a ${psnr.replace("PSNR", "PSNR of")}` : ""}`;
}

// The code well inside the map that is farthest from all training codes, in the plane of the map.
function widestGap(card) {
  const { plane } = card.map;
  const grid = Array.from({ length: 400 }, (_, at) => plane.at(0.15 + (0.7 * (at % 20)) / 19, 0.15 + (0.7 * Math.floor(at / 20)) / 19));
  const room = ([u, v]) => Math.min(...plane.points.map(([x, y]) => Math.hypot(x - u, y - v)));
  const best = grid.reduce((a, b) => (room(a) >= room(b) ? a : b));
  return plane.moved(card.state, best);
}

function drawnFrom({ code, variance }) {
  const noise = standardNormal(code.length);
  return code.map((mean, at) => mean + Math.sqrt(variance[at]) * noise[at]);
}

// A point on the circle of radius 1 around the middle of the plane.
function onCircle(card, turns) {
  const { plane } = card.map;
  const middle = plane.project(card.content.draws?.mean ?? plane.centre);
  const angle = 2 * Math.PI * turns;
  return plane.moved(card.state, [middle[0] + Math.cos(angle), middle[1] + Math.sin(angle)]);
}

class Tour {
  constructor(cards, ends, walk) {
    Object.assign(this, { cards, ends, walk });
    byId("tour-start").addEventListener("click", () => this.show(0));
    byId("tour-back").addEventListener("click", () => this.show(this.at - 1));
    byId("tour-next").addEventListener("click", () => (this.at + 1 < TOUR.length ? this.show(this.at + 1) : this.end()));
    byId("tour-end").addEventListener("click", () => this.end());
    byId("tour").addEventListener("keydown", (event) => { if (event.key === "Escape") this.end(); });
    addEventListener("pointerdown", (event) => { if (event.target.closest("#models, #walk, #ends")) this.stop(); });
  }

  async show(at) {
    this.stop();
    this.walk.stop();
    this.at = at;
    const step = TOUR[at];
    const cast = castOf(this.cards);
    const missing = step.needs.filter((role) => !cast[role]);
    byId("tour").hidden = false;
    document.body.classList.add("touring");
    byId("tour-count").textContent = `${at + 1} of ${TOUR.length}`;
    byId("tour-title").textContent = step.title;
    byId("tour-text").textContent = missing.length
      ? `This step needs a model that is not on the page: ${missing.map((role) => NEEDED[role]).join(", and ")}.`
      : step.text(cast);
    byId("tour-back").disabled = at === 0;
    byId("tour-next").textContent = at + 1 < TOUR.length ? "Next" : "Finish";
    const shown = missing.length ? this.cards : step.about(cast);
    for (const card of this.cards) card.root.classList.toggle("aside", !shown.includes(card));
    byId("models").scrollIntoView({ block: "start", behavior: STILL ? "auto" : "smooth" });
    byId("tour-title").focus({ preventScroll: true });
    if (!missing.length) await step.run(this, cast);
  }

  // Calls back with the seconds since the start, at these intervals, until the step ends; once without motion.
  async repeat(milliseconds, call) {
    const running = (this.running = Symbol("running"));
    const start = performance.now();
    do {
      await call((performance.now() - start) / 1000);
      await pause(milliseconds);
    } while (this.running === running && !STILL);
  }

  stop() {
    this.running = null;
  }

  end() {
    this.stop();
    this.walk.stop();
    byId("tour").hidden = true;
    document.body.classList.remove("touring");
    for (const card of this.cards) card.root.classList.remove("aside");
    byId("tour-start").focus();
  }
}

// The guided tour: six steps, each of which sets the page and makes one point.

// The models that steps are about: the first of each kind on the page.
function castOf(cards) {
  const continuous = cards.filter((card) => card instanceof ContinuousCard && card.map);
  const point = continuous.find((card) => !card.ends.a.variance && !card.content.has_prior);
  const clouds = continuous.filter((card) => card.ends.a.variance && card.content.has_prior);
  const cloud = clouds.find((card) => card.content.latent_dim === point?.content.latent_dim) ?? clouds[0];
  const [strong, weak] = differingInBeta(cards);
  return { all: cards, point, cloud, strong, weak };
}

// Two models of the same size whose objectives differ in the weight of the KL alone, the larger weight first.
function differingInBeta(cards) {
  const weighted = cards.filter((card) => betaOf(card)).sort((a, b) => betaOf(b) - betaOf(a));
  const pairs = weighted.flatMap((one, at) => weighted.slice(at + 1).map((other) => [one, other]));
  const comparable = ([one, other]) => one.content.latent_dim === other.content.latent_dim && betaOf(one) > betaOf(other);
  return pairs.find(comparable) ?? [];
}

// The weight of the KL in an objective such as "recon + 4 kl"; 0 for others.
function betaOf({ content }) {
  const found = content.unit === "nats" && content.objective.match(/^recon \+ (?:([0-9.e+-]+) )?kl(?: \(.*\))?$/);
  return found ? Number(found[1] ?? 1) : 0;
}

const NEEDED = {
  point: "an autoencoder without a prior, such as model=ae",
  cloud: "a VAE, such as model=vae",
  strong: "two VAEs with equally many dimensions that weigh the KL differently, such as model=vae and model=beta_vae",
};

const TOUR = [
  {
    title: "A code is a suitcase",
    needs: [],
    about: ({ all }) => all,
    text: ({ all }) => [
      `Each encoder packs image A, ${PIXELS} numbers, into its code: ${all.map(sizeOf).join(", ")}.`,
      "Each decoder unpacks the code again, into the large picture.",
      "What did not fit is missing: compare the pictures with A.",
    ],
    run: (tour) => { tour.walk.position = 0; },
  },
  {
    title: "What an autoencoder does with codes it never saw",
    needs: ["point"],
    about: ({ point }) => [point],
    text: ({ point }) => [
      `${point.content.name} was trained to unpack the codes of its training images, the coloured points, and nothing else.`,
      "The cross is now at the widest gap between them.",
      "The decoder returns an image there too, but nothing in training made that image look like the data.",
      "Move across the empty parts of the map.",
    ],
    run: async (tour, { point }) => { await point.go(widestGap(point)); },
  },
  {
    title: "A VAE packs a cloud",
    needs: ["cloud"],
    about: ({ cloud }) => [cloud],
    text: ({ cloud }) => [
      `${cloud.content.name} gives image A no point but a cloud: a mean and a spread.`,
      "The two ellipses around A are one and two standard deviations of it.",
      "In training, the decoder gets random points of the cloud, such as those that the cross jumps to now,",
      "and each decoded image is compared with A.",
    ],
    run: (tour, { cloud }) => tour.repeat(450, () => cloud.go(drawnFrom(cloud.ends.a))),
  },
  {
    title: "Why the landscape is smooth",
    needs: ["cloud"],
    about: ({ cloud }) => [cloud],
    text: () => [
      "The clouds of neighbouring images overlap, so the decoder gets the same code for several images,",
      "and the best that it can return lies between them.",
      "The KL term pulls all clouds towards the prior, the dashed circles, which leaves few gaps.",
      "As the cross goes around the middle, one image turns gradually into the next.",
    ],
    run: (tour, { cloud }) => tour.repeat(33, (seconds) => cloud.go(onCircle(cloud, seconds / 8))),
  },
  {
    title: "The same walk through both",
    needs: ["point", "cloud"],
    about: ({ point, cloud }) => [point, cloud],
    text: ({ point, cloud }) => [
      "Both models walk from A to B in a straight line of codes.",
      "Watch the pictures in the middle of the way, and on the maps what the line crosses:",
      `${point.content.name} may pass through places where no code was ever seen, ${cloud.content.name} through clouds of other images.`,
    ],
    run: (tour) => { tour.walk.position = 0; tour.walk.play(); },
  },
  {
    title: "What beta buys, and what it costs",
    needs: ["strong"],
    about: ({ strong, weak }) => [strong, weak],
    text: ({ strong, weak }) => [
      `The KL term is the price of a code, and beta its weight. ${priceOf(strong)}; ${priceOf(weak)}.`,
      "A larger beta buys codes that stay closer to the prior, often with fewer dimensions in use.",
      "It costs detail: compare both pictures of A.",
    ],
    run: (tour) => { tour.walk.position = 0; },
  },
];

function sizeOf({ content }) {
  const count = content.books.reduce((sum, book) => sum + book.height * book.width, 0);
  return `${content.name} ${count ? `${count} indices` : `${content.latent_dim} numbers`}`;
}

function priceOf({ content }) {
  const rate = content.sliders.reduce((sum, slider) => sum + slider.size, 0).toFixed(1);
  const used = content.sliders.filter((slider) => slider.used).length;
  const psnr = content.metrics.find((text) => text.startsWith("PSNR"))?.replace("PSNR", ", for a PSNR of") ?? "";
  return `${content.name} (${content.objective}) spends ${rate} nats on an image and uses ${used} of ${content.sliders.length} dimensions${psnr}`;
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
      : step.text(cast).join(" ");
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

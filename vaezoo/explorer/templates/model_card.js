// A model on the page: its picture, what is nearest to it, and either a map with sliders or a map of indices.

class ModelCard {
  constructor(content, training) {
    this.content = content;
    this.networks = new Networks(content);
    this.ends = {};
    this.image = imageCanvas(`decoded by ${content.name}`, "decoded");
    this.neighbours = new Neighbours(training);
    this.caption = element("p", { className: "caption" });
    this.spoken = element("p", { className: "spoken", attributes: { role: "status" } });
    this.root = element("article", { className: "model", attributes: { "aria-label": content.name } });
  }

  async load() {
    await this.networks.load();
    await this.build();
    const numbers = this.content.metrics.map((text) => text.replaceAll(" ", "\u00a0")).join("\u00a0· ");
    const given = this.content.classes ? [this.labelChoice()] : [];
    this.root.append(
      element("h3", {}, this.content.name),
      element("p", { className: "faint objective" }, this.content.objective),
      element("p", { className: "faint numbers" }, numbers && `test:\u00a0${numbers}`),
      ...given,
      ...this.parts(),
      element("div", { className: "outcome" }, this.image, this.neighbours.root),
      this.caption, this.spoken, ...this.after(),
    );
  }

  labelChoice() {
    const options = Array.from({ length: this.content.classes }, (_, label) => element("option", { value: label }, nameOf(label)));
    this.labels = element("select", {}, ...options);
    this.labels.addEventListener("change", () => this.setLabel(Number(this.labels.value)));
    return element("label", { className: "controls" }, "decoded given the label ", this.labels);
  }

  setLabel(label) {
    this.networks.label = label;
    this.labels.value = label;
    if (this.state) this.go(this.state);
  }

  // Show a code, or indices, as soon as the last one is shown; of several that wait, the latest.
  go(state, time = performance.now(), note = "") {
    this.waiting = { state, time, note };
    this.working ??= this.work();
    return this.working;
  }

  async work() {
    while (this.waiting) {
      const { state, time, note } = this.waiting;
      this.waiting = null;
      const { pixels, state: shown } = await this.decoded(state);
      [this.state, this.note] = [shown, note];
      this.pixels = pixels.slice(0, PIXELS);
      this.show();
      this.delay = performance.now() - time;
    }
    this.working = null;
  }

  walk(t, path) {
    return this.go(PATHS[path](this.ends.a.code, this.ends.b.code, t));
  }

  remarks() {
    return this.note ? [this.note] : [];
  }

  after() {
    return [];
  }

  show() {
    paint(this.image, this.pixels);
    const [distance, label] = this.neighbours.show(this.pixels);
    const nearest = label >= 0 ? `nearest: ${nameOf(label)}` : "nearest training image";
    this.caption.textContent = [`${nearest}, RMS difference ${distance.toFixed(3)}`, ...this.remarks()].join(" · ");
    this.showParts();
    this.speakSoon(label, distance);
  }

  // A sentence for screen readers, once nothing has moved for a while.
  speakSoon(label, distance) {
    clearTimeout(this.timer);
    const whose = label >= 0 ? ` is a ${nameOf(label)},` : " is";
    const sentence = `${this.content.name}: the nearest training image${whose} ${distance.toFixed(2)} away. ${this.spokenState()}`;
    this.timer = setTimeout(() => {
      this.spoken.textContent = sentence;
      this.image.setAttribute("aria-label", `decoded by ${sentence}`);
    }, 700);
  }
}

class ContinuousCard extends ModelCard {
  async build() {
    const { draws, codes } = this.content;
    if (draws?.mean) [draws.mean, draws.std] = [await valuesOf(draws.mean), await valuesOf(draws.std)];
    if (draws?.stored) draws.rows = await rowsOf(draws.stored);
    this.codes = await rowsOf(codes);
    const go = (code, time) => this.go(code, time);
    const planes = await planesOf(this.content, this.codes);
    this.map = planes.size ? new LatentMap(this.content.name, planes, this.networks, go) : null;
    this.sliders = this.content.sliders.length + this.content.categories.length ? new Sliders(this.content, go) : null;
    this.map?.drawStill();
  }

  parts() {
    return this.map ? [this.map.canvas, this.map.controls] : [];
  }

  after() {
    return this.sliders ? [this.sliders.root] : [];
  }

  async setEnd(which, image, label) {
    if (this.content.classes && label >= 0 && which === "a") this.setLabel(label);
    const { code, variance } = await this.networks.encode(image, label >= 0 ? label : this.networks.label);
    this.ends[which] = { code: Float32Array.from(code), variance };
    this.map?.setEnd(which, this.ends[which].code, variance);
  }

  // noise: standard normal draws by number of dimensions, the same for all models; number: which stored draw.
  drawRandom(noise, number) {
    const { draws } = this.content;
    if (!draws) return;
    const code = draws.rows?.[number % draws.rows.length] ?? draws.mean.map((mean, at) => mean + draws.std[at] * noise[at]);
    this.go(code, undefined, `drawn from ${draws.source}`);
  }

  async decoded(code) {
    const { pixels, code: nearest } = await this.networks.decode(code);
    return { pixels, state: nearest };
  }

  remarks() {
    const remarks = super.remarks();
    const { mean, std } = this.content.draws ?? {};
    if (mean) {
      const distance = Math.sqrt(this.state.reduce((sum, value, at) => sum + ((value - mean[at]) / std[at]) ** 2, 0));
      remarks.push(`|z| ${distance.toFixed(1)}, typical of the prior ${Math.sqrt(mean.length).toFixed(1)}`);
    }
    return remarks;
  }

  spokenState() {
    const first = Array.from(this.state.slice(0, 3), (value) => value.toFixed(1)).join(", ");
    return `Code ${first}${this.state.length > 3 ? ", and so on" : ""}. ${this.remarks().join(". ")}`;
  }

  showParts() {
    this.map?.show(this.state);
    this.sliders?.show(this.state);
  }
}

class DiscreteCard extends ModelCard {
  async build() {
    const { draws } = this.content;
    draws.rows = await rowsOf(draws.stored);
    this.map = new IndexMap(this.content.name, this.content, this.networks, (indices, time) => this.go(indices, time));
  }

  parts() {
    return [this.map.root];
  }

  async setEnd(which, image) {
    const { code } = await this.networks.encode(image);
    this.ends[which] = { code: Float32Array.from(code) };
  }

  drawRandom(noise, number) {
    const { draws } = this.content;
    this.go(draws.rows[number % draws.rows.length], undefined, `indices drawn from ${draws.source}`);
  }

  // A path's point is replaced by the indices of the codes nearest to it.
  async decoded(state) {
    const indices = state instanceof Int32Array ? state : Int32Array.from(await this.networks.nearestIndices(state));
    return { pixels: await this.networks.decodeIndices(indices), state: indices };
  }

  spokenState() {
    return `${this.state.length} indices. ${this.remarks().join(". ")}`;
  }

  showParts() {
    this.map.show(this.state);
  }
}

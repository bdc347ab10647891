// The walk from A to B through all models at once, and random draws.

const SECONDS = 4; // from one end to the other

class Walk {
  constructor(cards) {
    this.cards = cards;
    this.count = 0;
    byId("position").addEventListener("input", () => { this.stop(); this.show(); });
    byId("path").addEventListener("change", () => this.show());
    byId("play").addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    byId("draw").addEventListener("click", () => this.draw());
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button, dialog")) return;
      if (event.key === "r") this.draw();
    });
  }

  get position() {
    return Number(byId("position").value);
  }

  set position(t) {
    byId("position").value = t;
    this.show();
  }

  show() {
    return Promise.all(this.cards.map((card) => card.walk(this.position, byId("path").value)));
  }

  draw() {
    this.stop();
    const noise = standardNormal(Math.max(...this.cards.map((card) => card.content.latent_dim)));
    for (const card of this.cards) card.drawRandom(noise, this.count);
    this.count += 1;
  }

  // There and back until it is stopped; without motion, to the other end at once.
  async play() {
    if (STILL) {
      this.position = this.position > 0.5 ? 0 : 1;
      return;
    }
    const playing = (this.playing = Symbol("playing"));
    this.mark(true);
    let [before, direction] = [performance.now(), this.position >= 1 ? -1 : 1];
    while (this.playing === playing) {
      await nextFrame();
      if (this.playing !== playing) return;
      const now = performance.now();
      const t = this.position + (direction * (now - before)) / (1000 * SECONDS);
      before = now;
      if (t >= 1 || t <= 0) direction = t >= 1 ? -1 : 1;
      byId("position").value = Math.max(0, Math.min(1, t));
      await this.show();
    }
  }

  stop() {
    this.playing = null;
    this.mark(false);
  }

  mark(playing) {
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", playing);
  }
}

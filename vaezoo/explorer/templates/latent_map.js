// The map of a model: training codes, prior and posteriors over what the plane decodes to. Moving on it moves the code.

const SIDE = 560; // pixels of a map's canvas, whatever its size on the screen
const TILES = 15;
const END_COLOURS = { a: "#d0006f", b: "#00736b" };

class LatentMap {
  constructor(name, planes, networks, go) {
    Object.assign(this, { planes, networks, go });
    this.plane = [...planes.values()][0];
    this.ends = {};
    this.showsTiles = true;
    this.canvas = element("canvas", {
      className: "map", width: SIDE, height: SIDE, tabIndex: 0,
      attributes: { role: "application", "aria-label": `Latent map of ${name}: arrow keys move the code, with Shift in small steps` },
    });
    this.still = new OffscreenCanvas(SIDE, SIDE);
    this.canvas.addEventListener("pointermove", (event) => this.follow(event));
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.follow(event);
    });
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    this.controls = this.makeControls(name);
  }

  makeControls(name) {
    const options = [...this.planes.keys()].map((key) => element("option", { value: key }, key));
    const choice = element("select", { attributes: { "aria-label": `Plane of the map of ${name}` } }, ...options);
    choice.addEventListener("change", () => this.choose(choice.value));
    const tiles = element("input", { type: "checkbox", checked: true });
    tiles.addEventListener("change", () => { this.showsTiles = tiles.checked; this.drawStill(); this.draw(); });
    return element("div", { className: "controls" }, choice, element("label", {}, tiles, " decoded images"));
  }

  choose(key) {
    this.plane = this.planes.get(key);
    this.tiles = null;
    this.drawStill();
    this.show(this.code);
  }

  follow(event) {
    if (event.pointerType !== "mouse" && !event.buttons && event.type !== "pointerdown") return;
    const box = this.canvas.getBoundingClientRect();
    const point = this.plane.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    this.go(this.plane.moved(this.code, point), event.timeStamp);
  }

  step(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!direction) return;
    event.preventDefault();
    const size = this.plane.box.size / (event.shiftKey ? 200 : 40);
    const point = this.plane.project(this.code).map((value, axis) => value + size * direction[axis]);
    this.go(this.plane.moved(this.code, point), event.timeStamp);
  }

  show(code) {
    this.code = code;
    this.draw();
    this.decodePlane();
  }

  setEnd(which, code, variance) {
    this.ends[which] = { code, variance };
    this.draw();
  }

  // Decode a grid of the plane through the present code, in batches between which the page stays responsive.
  async decodePlane() {
    const key = this.keyOfPlane();
    if (this.wantedKey === key) return;
    this.wantedKey = key;
    if (this.tiles?.key === key) return;
    const tiles = new OffscreenCanvas(TILES * WIDTH, TILES * HEIGHT);
    const size = this.code.length;
    for (let start = 0; start < TILES * TILES; start += BATCH) {
      const count = Math.min(BATCH, TILES * TILES - start);
      const codes = new Float32Array(count * size);
      for (let at = 0; at < count; at++) codes.set(this.plane.moved(this.code, this.tileCentre(start + at)), at * size);
      const { pixels } = await this.networks.decode(codes, count);
      for (let at = 0; at < count; at++) {
        const tile = start + at;
        const image = bytesOfImage(pixels, at * PIXELS);
        tiles.getContext("2d").putImageData(image, (tile % TILES) * WIDTH, Math.floor(tile / TILES) * HEIGHT);
      }
      await pause(0);
      if (this.wantedKey !== key) return;
    }
    this.tiles = { key, canvas: tiles };
    this.drawStill();
    this.draw();
  }

  tileCentre(tile) {
    return this.plane.at(((tile % TILES) + 0.5) / TILES, (Math.floor(tile / TILES) + 0.5) / TILES);
  }

  // Where the plane lies: the same for all codes in it.
  keyOfPlane() {
    const origin = this.plane.moved(this.code, [0, 0]);
    const step = this.plane.box.size / 100;
    return [this.plane.names, this.networks.label, ...Array.from(origin, (value) => Math.round(value / step))].join();
  }

  // drawing -----------------------------------------------------------------------------------------------------------

  pixel(point) {
    return this.plane.place(point).map((part) => part * SIDE);
  }

  drawStill() {
    const context = this.still.getContext("2d");
    context.clearRect(0, 0, SIDE, SIDE);
    if (this.showsTiles && this.tiles) {
      context.globalAlpha = 0.75;
      context.drawImage(this.tiles.canvas, 0, 0, SIDE, SIDE);
      context.globalAlpha = 1;
    }
    this.drawPrior(context);
    this.drawCodes(context);
    this.drawNames(context);
  }

  drawCodes(context) {
    context.lineWidth = 1.5;
    context.strokeStyle = "#fff";
    this.plane.points.forEach((point, at) => {
      context.fillStyle = colourOf(PAGE.images.label[at]);
      context.beginPath();
      context.arc(...this.pixel(point), 5, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    });
  }

  // The name of each class at the median of its codes.
  drawNames(context) {
    if (!PAGE.images.few) return;
    context.font = "bold 30px system-ui, sans-serif";
    [context.textAlign, context.textBaseline, context.lineWidth, context.strokeStyle] = ["center", "middle", 7, "#fff"];
    for (const [label, name] of Object.entries(PAGE.images.names)) {
      const own = this.plane.points.filter((_, at) => PAGE.images.label[at] === Number(label));
      if (!own.length || name.length > 3) continue;
      const place = this.pixel([0, 1].map((axis) => median(own.map((point) => point[axis]))));
      context.strokeText(name, ...place);
      context.fillStyle = colourOf(Number(label));
      context.fillText(name, ...place);
    }
  }

  // Circles at one, two and three standard deviations of a Gaussian prior; draws of any other.
  drawPrior(context) {
    const { mean, std, rows } = this.networks.content.draws ?? {};
    if (mean) {
      const covariance = this.plane.covariance(std.map((value) => value * value));
      for (const sigmas of [1, 2, 3]) this.ellipse(context, this.plane.project(mean), covariance, sigmas, "#0b62c4", [9, 6]);
    } else if (rows && this.networks.content.has_prior) {
      context.fillStyle = "#0b62c4";
      context.font = "20px system-ui, sans-serif";
      for (const row of rows) context.fillText("×", ...this.pixel(this.plane.project(row)));
    }
  }

  // Two lines on top of each other, so that it is seen on light and on dark images.
  ellipse(context, centre, covariance, sigmas, colour, dashes = []) {
    const { long, short, angle } = ellipseOf(covariance);
    const scale = (sigmas * SIDE) / this.plane.box.size;
    context.setLineDash(dashes);
    for (const [style, width] of [["#ffffffcc", 5], [colour, 2.5]]) {
      [context.strokeStyle, context.lineWidth] = [style, width];
      context.beginPath();
      context.ellipse(...this.pixel(centre), long * scale, short * scale, -angle, 0, 2 * Math.PI);
      context.stroke();
    }
    context.setLineDash([]);
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, SIDE, SIDE);
    context.drawImage(this.still, 0, 0);
    for (const [which, { code, variance }] of Object.entries(this.ends)) this.drawEnd(context, which, code, variance);
    if (this.code) this.drawCursor(context, this.pixel(this.plane.project(this.code)));
  }

  drawEnd(context, which, code, variance) {
    const point = this.plane.project(code);
    if (variance) {
      const covariance = this.plane.covariance(variance);
      for (const sigmas of [1, 2]) this.ellipse(context, point, covariance, sigmas, END_COLOURS[which]);
    }
    const [x, y] = this.pixel(point);
    const colour = END_COLOURS[which];
    this.disc(context, x, y, 6, colour);
    const [left, top] = [x + 24 < SIDE - 14 ? x + 24 : x - 24, y - 24 > 14 ? y - 24 : y + 24];
    this.disc(context, left, top, 14, colour);
    [context.fillStyle, context.font] = ["#fff", "bold 19px system-ui, sans-serif"];
    [context.textAlign, context.textBaseline] = ["center", "middle"];
    context.fillText(which.toUpperCase(), left, top + 1);
  }

  disc(context, x, y, radius, colour) {
    [context.fillStyle, context.strokeStyle, context.lineWidth] = [colour, "#fff", 2];
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }

  drawCursor(context, [x, y]) {
    const [left, top] = [x, y].map((value) => Math.max(8, Math.min(SIDE - 8, value)));
    for (const [style, width] of [["#fff", 9], ["#111", 4]]) {
      [context.strokeStyle, context.lineWidth] = [style, width];
      context.beginPath();
      context.arc(left, top, 11, 0, 2 * Math.PI);
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(left + 11 * dx, top + 11 * dy);
        context.lineTo(left + 20 * dx, top + 20 * dy);
      }
      context.stroke();
    }
  }
}

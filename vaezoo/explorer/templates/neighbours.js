// The training images nearest to a decoded image, by the root mean square difference of their pixels.

const NEAREST = 3;

class Neighbours {
  constructor(training) {
    this.training = training;
    this.canvases = Array.from({ length: NEAREST }, () => imageCanvas("", "neighbour"));
    this.distances = this.canvases.map(() => element("figcaption", {}));
    const figures = this.canvases.map((canvas, at) => element("figure", {}, canvas, this.distances[at]));
    const title = element("p", { className: "faint" }, "nearest training images");
    this.root = element("div", {}, title, element("div", { className: "neighbours" }, ...figures));
  }

  // Shows them and returns [distance, label] of the nearest.
  show(pixels) {
    const found = this.nearest(pixels);
    found.forEach(([distance, at], rank) => {
      const label = PAGE.images.label[at];
      const whose = label >= 0 ? `${nameOf(label)}, ` : "";
      paint(this.canvases[rank], this.training[at]);
      this.canvases[rank].setAttribute("aria-label", `training image ${whose}distance ${distance.toFixed(3)}`);
      this.distances[rank].textContent = distance.toFixed(2);
    });
    return [found[0][0], PAGE.images.label[found[0][1]]];
  }

  nearest(pixels) {
    const best = Array.from({ length: NEAREST }, () => [Infinity, 0]);
    this.training.forEach((image, at) => {
      const limit = best[NEAREST - 1][0];
      let sum = 0;
      for (let pixel = 0; pixel < PIXELS && sum < limit; pixel++) sum += (image[pixel] - pixels[pixel]) ** 2;
      if (sum >= limit) return;
      best[NEAREST - 1] = [sum, at];
      best.sort((a, b) => a[0] - b[0]);
    });
    return best.map(([sum, at]) => [Math.sqrt(sum / PIXELS), at]);
  }
}

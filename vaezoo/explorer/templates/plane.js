// A plane through the codes of a model: two of its dimensions, or the principal axes of the training codes.

class Plane {
  constructor(content, codes, directions, centre, names) {
    Object.assign(this, { content, codes, directions, centre, names });
    this.points = codes.map((code) => this.project(code));
    this.box = this.boxAround();
  }

  project(code) {
    return this.directions.map((direction) => {
      let sum = 0;
      for (let at = 0; at < code.length; at++) sum += direction[at] * (code[at] - this.centre[at]);
      return sum;
    });
  }

  // The code that is moved to a point of the plane, and stays where it is across it.
  moved(code, point) {
    const now = this.project(code);
    const [u, v] = [point[0] - now[0], point[1] - now[1]];
    return Float32Array.from(code, (value, at) => value + u * this.directions[0][at] + v * this.directions[1][at]);
  }

  // Covariance [xx, xy, yy] in the plane of a Gaussian with these variances.
  covariance(variance) {
    const [first, second] = this.directions;
    const sum = [0, 0, 0];
    for (let at = 0; at < variance.length; at++) {
      sum[0] += variance[at] * first[at] * first[at];
      sum[1] += variance[at] * first[at] * second[at];
      sum[2] += variance[at] * second[at] * second[at];
    }
    return sum;
  }

  // {left, bottom, size}: a square with nearly all points, and three standard deviations of a Gaussian prior.
  boxAround() {
    const ranges = [0, 1].map((axis) => {
      const values = this.points.map((point) => point[axis]).sort((a, b) => a - b);
      const tail = Math.floor(0.004 * values.length);
      return [values[tail], values[values.length - 1 - tail]];
    });
    const { mean, std } = this.content.draws ?? {};
    if (mean) {
      const middle = this.project(mean);
      const [xx, , yy] = this.covariance(std.map((value) => value * value));
      [xx, yy].forEach((variance, axis) => {
        ranges[axis][0] = Math.min(ranges[axis][0], middle[axis] - 3 * Math.sqrt(variance));
        ranges[axis][1] = Math.max(ranges[axis][1], middle[axis] + 3 * Math.sqrt(variance));
      });
    }
    const size = 1.08 * Math.max(1e-3, ...ranges.map(([low, high]) => high - low));
    const [left, bottom] = ranges.map(([low, high]) => (low + high - size) / 2);
    return { left, bottom, size };
  }

  // A point at parts of the width from the left and of the height from the top, and the reverse.
  at(x, y) {
    const { left, bottom, size } = this.box;
    return [left + x * size, bottom + (1 - y) * size];
  }

  place([u, v]) {
    const { left, bottom, size } = this.box;
    return [(u - left) / size, 1 - (v - bottom) / size];
  }
}

// The planes of a model by name: its principal axes, and pairs of dimensions in the order of the sliders.
async function planesOf(content, codes) {
  const planes = new Map();
  const zeros = new Float32Array(content.latent_dim);
  const singles = content.sliders.filter((slider) => slider.stop === slider.start + 1);
  const pairs = [];
  for (let at = 0; at + 1 < singles.length && pairs.length < 3; at += 2) pairs.push([singles[at], singles[at + 1]]);
  if (content.plane && content.latent_dim > 2) {
    const [directions, centre] = [await rowsOf(content.plane.directions), await valuesOf(content.plane.centre)];
    const percents = content.plane.shares.map((share) => `${Math.round(100 * share)}%`).join(" + ");
    planes.set(`principal axes (${percents})`, new Plane(content, codes, directions, centre, ["1st axis", "2nd axis"]));
  }
  for (const pair of pairs) {
    const ordered = [...pair].sort((a, b) => a.start - b.start);
    const directions = ordered.map((slider) => zeros.map((_, at) => Number(at === slider.start)));
    const names = ordered.map((slider) => slider.name);
    planes.set(names.join(" × "), new Plane(content, codes, directions, zeros, names));
  }
  return planes;
}

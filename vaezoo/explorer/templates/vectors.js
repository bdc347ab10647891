// Vectors, paths between them, and random numbers.

function dot(a, b) {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += a[at] * b[at];
  return sum;
}

function linear(a, b, t) {
  return Float32Array.from(a, (value, at) => value + t * (b[at] - value));
}

// Equal angles between a and b; a straight line where they have no unique arc.
function spherical(a, b, t) {
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.max(-1, Math.min(1, lengths ? dot(a, b) / lengths : 1)));
  const sine = Math.sin(angle);
  if (sine <= 1e-3) return linear(a, b, t);
  const [first, last] = [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine];
  return Float32Array.from(a, (value, at) => first * value + last * b[at]);
}

const PATHS = { linear, spherical };

function standardNormal(count) {
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
    return radius * Math.cos(2 * Math.PI * Math.random());
  });
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

// Centre line and half axes of the ellipse of a covariance [[xx, xy], [xy, yy]]: {long, short, angle}.
function ellipseOf([xx, xy, yy]) {
  const middle = (xx + yy) / 2;
  const spread = Math.hypot((xx - yy) / 2, xy);
  return {
    long: Math.sqrt(Math.max(0, middle + spread)),
    short: Math.sqrt(Math.max(0, middle - spread)),
    angle: 0.5 * Math.atan2(2 * xy, xx - yy),
  };
}

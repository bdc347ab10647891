// Images of one's own: drawn by hand or from a file, and brought to the look of the training images.

const FINE = 8; // supersampling of drawings
const PAPER = 0.5; // a border brighter than this is paper, and the drawing on it is dark

// Strokes as lists of points in the unit square, drawn with the pen of the training images, as large and as centred.
function imageOfStrokes(strokes, pen) {
  const [xs, ys] = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const box = { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
  const side = Math.max(box.right - box.left, box.bottom - box.top);
  const scale = side > 0.02 ? Math.max(1, pen.side - pen.width) / side : 0;
  const place = ([x, y]) => [
    (pen.x + scale * (x - (box.left + box.right) / 2)) * FINE,
    (pen.y + scale * (y - (box.top + box.bottom) / 2)) * FINE,
  ];
  const canvas = new OffscreenCanvas(WIDTH * FINE, HEIGHT * FINE);
  const context = canvas.getContext("2d");
  [context.lineCap, context.lineJoin, context.lineWidth] = ["round", "round", pen.width * FINE];
  context.strokeStyle = `rgb(${Array(3).fill(Math.round(255 * pen.level)).join()})`;
  for (const stroke of strokes) drawStroke(context, stroke.map(place));
  return shrunk(canvas, 0, 0, WIDTH * FINE, HEIGHT * FINE);
}

function drawStroke(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points) context.lineTo(...point);
  if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
  context.stroke();
}

// A part of a picture as an image of the page, averaged in steps of two, over black.
function shrunk(source, left, top, width, height, target = { x: 0, y: 0, width: WIDTH, height: HEIGHT }) {
  let [from, x, y, w, h] = [source, left, top, width, height];
  while (w > 2 * target.width && h > 2 * target.height) {
    const half = new OffscreenCanvas(Math.ceil(w / 2), Math.ceil(h / 2));
    half.getContext("2d").drawImage(from, x, y, w, h, 0, 0, half.width, half.height);
    [from, x, y, w, h] = [half, 0, 0, half.width, half.height];
  }
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, WIDTH, HEIGHT);
  context.imageSmoothingQuality = "high";
  context.drawImage(from, x, y, w, h, target.x, target.y, target.width, target.height);
  return pixelsOf(context.getImageData(0, 0, WIDTH, HEIGHT));
}

// A picture as an image of the page: a drawing by its bounding box where training images are drawings, else its centre.
function imageOfPicture(bitmap, pen) {
  const [width, height] = [bitmap.width, bitmap.height];
  if (pen) {
    const found = inkOf(bitmap);
    if (found) return imageOfInk(found, pen);
  }
  const scale = Math.min(width / WIDTH, height / HEIGHT);
  const [w, h] = [scale * WIDTH, scale * HEIGHT];
  return shrunk(bitmap, (width - w) / 2, (height - h) / 2, w, h);
}

// Light strokes on black with their bounding box, of a picture on light or on dark ground; null if it is empty.
function inkOf(bitmap) {
  const scale = Math.min(1, 512 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(scale * bitmap.width), Math.ceil(scale * bitmap.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = Float32Array.from({ length: canvas.width * canvas.height }, (_, at) => greyAt(image.data, at));
  const border = median(borderOf(grey, canvas.width, canvas.height));
  const ink = grey.map((value) => Math.max(0, border > PAPER ? border - value : value - border));
  const most = ink.reduce((a, b) => Math.max(a, b), 0);
  if (most < 0.1) return null;
  ink.forEach((value, at) => image.data.set([...Array(3).fill((255 * value) / most), 255], 4 * at));
  context.putImageData(image, 0, 0);
  return { canvas, ...boxOf(ink, canvas.width, most / 4) };
}

function greyAt(data, at) {
  return (0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2]) / 255;
}

function borderOf(grey, width, height) {
  return Array.from(grey).filter((_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
}

function boxOf(ink, width, least) {
  const box = { left: Infinity, top: Infinity, right: 0, bottom: 0 };
  ink.forEach((value, at) => {
    if (value <= least) return;
    const [x, y] = [at % width, Math.floor(at / width)];
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x + 1);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y + 1);
  });
  return box;
}

function imageOfInk({ canvas, left, top, right, bottom }, pen) {
  const scale = pen.side / Math.max(right - left, bottom - top);
  const [width, height] = [scale * (right - left), scale * (bottom - top)];
  const target = { x: pen.x - width / 2, y: pen.y - height / 2, width, height };
  return shrunk(canvas, left, top, right - left, bottom - top, target).map((value) => value * pen.level);
}

// The pad on which one draws. ``use`` gets each image, after every stroke.
class DrawingPad {
  constructor(canvas, pen, use) {
    Object.assign(this, { canvas, pen, use });
    this.strokes = [];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.strokes.push([this.pointOf(event)]);
      this.drawing = true;
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drawing) return;
      this.strokes.at(-1).push(this.pointOf(event));
      this.draw();
    });
    canvas.addEventListener("pointerup", () => this.end());
    canvas.addEventListener("pointercancel", () => this.end());
    this.draw();
  }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  end() {
    if (!this.drawing) return;
    this.drawing = false;
    this.use(imageOfStrokes(this.strokes, this.pen));
  }

  clear() {
    this.strokes = [];
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    [context.strokeStyle, context.lineCap, context.lineJoin] = ["#fff", "round", "round"];
    context.lineWidth = (this.pen.width / WIDTH) * width;
    for (const stroke of this.strokes) drawStroke(context, stroke.map(([x, y]) => [x * width, y * height]));
  }
}

// Reads what the page contains: arrays, compressed files and sheets of images.

const PAGE = JSON.parse(document.getElementById("content").textContent);
const [CHANNELS, HEIGHT, WIDTH] = PAGE.images.shape;
const PIXELS = CHANNELS * HEIGHT * WIDTH;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The values of an array, in the order of its shape.
async function valuesOf(array) {
  const { buffer } = await inflated(array.values);
  return array.type === "int32" ? new Int32Array(buffer) : new Float32Array(buffer);
}

async function rowsOf(array) {
  const values = await valuesOf(array);
  const size = array.shape[1];
  return Array.from({ length: array.shape[0] }, (_, row) => values.subarray(row * size, (row + 1) * size));
}

// The images of a sheet, each as Float32Array of channels, rows and columns, in [0, 1].
async function imagesOf(sheet) {
  const blob = new Blob([await inflated(sheet.png)], { type: "image/png" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return Array.from({ length: sheet.count }, (_, at) => {
    const left = (at % sheet.columns) * WIDTH;
    const top = Math.floor(at / sheet.columns) * HEIGHT;
    return pixelsOf(context.getImageData(left, top, WIDTH, HEIGHT));
  });
}

// RGBA bytes of one image as its own channels; grey ones are weighed as the eye does.
function pixelsOf({ data }) {
  const count = HEIGHT * WIDTH;
  const pixels = new Float32Array(PIXELS);
  for (let at = 0; at < count; at++) {
    const [red, green, blue] = [data[4 * at], data[4 * at + 1], data[4 * at + 2]];
    if (CHANNELS === 1) pixels[at] = (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
    else [red, green, blue].forEach((value, channel) => { pixels[channel * count + at] = value / 255; });
  }
  return pixels;
}

function nameOf(label) {
  return PAGE.images.names[label] ?? String(label);
}

function colourOf(label) {
  return PAGE.images.colours[label] ?? "#5b6b82";
}

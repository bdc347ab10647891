// Elements of the page, and images on canvases.

const byId = (id) => document.getElementById(id);
const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;

function element(name, { attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// An image of channels, rows and columns in [0, 1], on a canvas of its own size.
function paint(canvas, pixels, start = 0) {
  if (canvas.width !== WIDTH || canvas.height !== HEIGHT) [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  canvas.getContext("2d").putImageData(bytesOfImage(pixels, start), 0, 0);
}

function bytesOfImage(pixels, start = 0) {
  const count = WIDTH * HEIGHT;
  const image = new ImageData(WIDTH, HEIGHT);
  for (let at = 0; at < count; at++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = start + (CHANNELS === 1 ? 0 : channel * count) + at;
      image.data[4 * at + channel] = 255 * pixels[from];
    }
    image.data[4 * at + 3] = 255;
  }
  return image;
}

function imageCanvas(label, className) {
  return element("canvas", { className, width: WIDTH, height: HEIGHT, attributes: { role: "img", "aria-label": label } });
}

const nextFrame = () => new Promise(requestAnimationFrame);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

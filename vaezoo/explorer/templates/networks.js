// Encoders and decoders in ONNX Runtime Web.

const BATCH = 32;

async function startRuntime() {
  const [wasm, module] = await Promise.all(["wasm", "module"].map((name) => inflated(byId(`runtime-${name}`).textContent)));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
}

let lastRun = Promise.resolve();

// The runtime does not run two programs at once, not even of different sessions.
function inTurn(run) {
  lastRun = lastRun.then(run, run);
  return lastRun;
}

// The programs of one model. Codes and images of a batch are one after another in a Float32Array.
class Networks {
  constructor(content) {
    this.content = content;
    this.label = 0; // what a conditional model decodes with
  }

  async load() {
    this.sessions = {};
    for (const [name, file] of Object.entries(this.content.programs)) {
      this.sessions[name] = await ort.InferenceSession.create(await inflated(file));
      delete this.content.programs[name];
    }
  }

  async run(name, input, type, values, shape, label = this.label) {
    const inputs = { [input]: new ort.Tensor(type, values, shape) };
    if (this.content.classes) {
      inputs.labels = new ort.Tensor("int64", new BigInt64Array(shape[0]).fill(BigInt(label)), [shape[0]]);
    }
    return inTurn(() => this.sessions[name].run(inputs));
  }

  // {code, variance}, of which the second is null without independent Gaussian dimensions; label is that of the image.
  async encode(image, label) {
    const found = await this.run("encoder", "images", "float32", image, [1, CHANNELS, HEIGHT, WIDTH], label);
    const code = (found.mean ?? found.code).data;
    return { code, variance: found.logvar ? found.logvar.data.map(Math.exp) : null };
  }

  // {pixels, code}: code is the nearest one that the encoder can give.
  async decode(codes, count = 1) {
    const found = await this.run("decoder", "code", "float32", codes, [count, this.content.latent_dim]);
    return { pixels: found.pixels.data, code: found.nearest?.data ?? codes };
  }

  async nearestIndices(code) {
    return (await this.run("nearest", "code", "float32", code, [1, this.content.latent_dim])).indices.data;
  }

  async decodeIndices(indices, count = 1) {
    const shape = [count, indices.length / count];
    return (await this.run("decoder", "indices", "int32", indices, shape)).pixels.data;
  }
}

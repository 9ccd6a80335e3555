// What a click loads: scripts that leave what they hold in segdetLive.data, and ONNX Runtime among them.
"use strict";
var segdetLive = segdetLive || {};
segdetLive.data = {}; // what the loaded scripts leave here, by name

{
  const HERE = document.currentScript.src.replace(/[^/]*$/, "");

  // A page on a disk may fetch nothing, but it may load scripts.
  const load = (name) =>
    new Promise((resolve, reject) => {
      if (name in segdetLive.data) return resolve(segdetLive.data[name]);
      const script = segdetLive.element(document.head, "script", { src: `${HERE}${name}.js` });
      script.onload = () => resolve(segdetLive.data[name]);
      script.onerror = () => reject(new Error(`${name}.js is not there: this copy of the book was built without npm`));
    });

  async function unpacked(text) {
    const zipped = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // ONNX Runtime in one thread of WebAssembly: a function from image and attention to probability.
  async function openNetwork() {
    const [runtime, network] = await Promise.all([load("runtime"), load("network")]);
    const ort = await import(URL.createObjectURL(new Blob([runtime.module], { type: "text/javascript" })));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await unpacked(runtime.wasm);
    const session = await ort.InferenceSession.create(await unpacked(network.model));
    return async (image, attention) => {
      const input = new Float32Array([...image, ...attention]);
      const { logits } = await session.run({ image: new ort.Tensor("float32", input, [1, 2, ...network.grids.segmenter_shape]) });
      return segdetLive.probability(logits.data);
    };
  }

  Object.assign(segdetLive, { load, unpacked, openNetwork });
}

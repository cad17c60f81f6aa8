/** Runs the network beside the page, which stays responsive. In: {file, input, dims, dtype, names, target}; out: the outputs. */

import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";

const here = (path) => new URL(path, import.meta.url).href;
ort.env.logLevel = "error";
ort.env.wasm.wasmPaths = { wasm: here("onnxruntime/ort-wasm-simd-threaded.wasm") };
// Threads need shared memory, which a browser grants only to pages that their host isolates (COOP and COEP headers).
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;

let loaded = { file: null, session: null, runs: 0 }; // one at a time: a phone's memory is small

async function open(file) {
  if (loaded.file === file) return;
  postMessage({ loading: file });
  await loaded.session?.release();
  loaded = { file: null, session: null, runs: 0 };
  const answer = await fetch(here(file), { cache: "no-cache" }); // asks whether it changed; names stay when a site is renewed
  if (!answer.ok) throw new Error(`the site lacks ${file} (${answer.status})`);
  const session = await ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), {
    executionProviders: ["wasm"],
  });
  loaded = { file, session, runs: 0 };
}

self.onmessage = async ({ data: { file, input, dims, dtype, names, target } }) => {
  try {
    await open(file);
    const feeds = { [names.input]: new ort.Tensor(dtype, input, dims) };
    if (names.target) feeds[names.target] = new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]);
    const started = performance.now();
    const outputs = await loaded.session.run(feeds, [names.scores, names.map]);
    const seconds = (performance.now() - started) / 1000;
    const map = outputs[names.map];
    postMessage({
      seconds,
      first: loaded.runs++ === 0,
      scores: Float32Array.from(outputs[names.scores].data, Number),
      map: Float32Array.from(map.data, map.type === "uint8" ? (value) => value / 255 : Number),
      size: map.dims.slice(1),
    });
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
};

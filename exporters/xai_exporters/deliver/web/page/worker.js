/**
 * Runs the networks beside the page, which stays responsive.
 *
 * In: {file, exactly, keep: how many networks stay loaded, bytes: size of each file, input, dims, dtype, names, target, more: further inputs
 * {name, type, data, dims}}.
 * Out: {loading: share of what is fetched}, then {seconds, first: the network's first run, scores, own: {data, dims} of the network's
 * own output, map, raw}, or {error}.
 */

import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";

const WASM = "onnxruntime/ort-wasm-simd-threaded.wasm";

const here = (path) => new URL(path, import.meta.url).href;
ort.env.logLevel = "error";
ort.env.wasm.wasmPaths = { wasm: here(WASM) };
// Threads need shared memory, which a browser grants only to pages that their host isolates (COOP and COEP headers).
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;

const loaded = new Map(); // file -> {session, runs}, the one used last at the end

async function open(file, exactly, keep, bytes) {
  let network = loaded.get(file);
  loaded.delete(file);
  if (!network) {
    for (const [old, { session }] of [...loaded].slice(0, Math.max(0, loaded.size + 1 - keep))) {
      loaded.delete(old); // a phone's memory is small
      await session.release();
    }
    const wanted = ort.env.wasm.wasmBinary ? [file] : [WASM, file];
    const files = await fetchAll(wanted, bytes);
    ort.env.wasm.wasmBinary ??= files.get(WASM);
    const session = await ort.InferenceSession.create(new Uint8Array(files.get(file)), {
      executionProviders: ["wasm"],
      // The optimiser rounds float weights of quantised networks, merges two roundings into one, or refuses its own graph
      graphOptimizationLevel: exactly ? "disabled" : "all",
    });
    network = { session, runs: 0 };
  }
  loaded.set(file, network);
  return network;
}

/** Fetch files one after the other, and tell how far it is. */
async function fetchAll(files, bytes) {
  const total = files.reduce((sum, file) => sum + bytes[file], 0);
  const contents = new Map();
  let [received, said] = [0, 0];
  postMessage({ loading: 0 });
  for (const file of files) {
    const answer = await fetch(here(file), { cache: "no-cache" }); // asks whether it changed; names stay when a site is renewed
    if (!answer.ok) throw new Error(`the site lacks ${file} (${answer.status})`);
    const chunks = [];
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      received += value.length;
      if (received - said > total / 100) postMessage({ loading: Math.min((said = received) / total, 1) });
    }
    contents.set(file, await new Blob(chunks).arrayBuffer());
  }
  postMessage({ loading: 1 });
  return contents;
}

self.onmessage = async ({ data: { file, exactly, keep, bytes, input, dims, dtype, names, target, more } }) => {
  try {
    const network = await open(file, exactly, keep, bytes);
    const feeds = { [names.input]: new ort.Tensor(dtype, input, dims) };
    if (names.target) feeds[names.target] = new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]);
    for (const { name, type, data, dims: sizes } of more) feeds[name] = new ort.Tensor(type, data, sizes);
    const started = performance.now();
    const outputs = await network.session.run(feeds, [...new Set([names.own, names.scores, names.map, names.raw])]);
    const seconds = (performance.now() - started) / 1000;
    const [map, raw] = [outputs[names.map], outputs[names.raw]];
    postMessage({
      seconds,
      first: network.runs++ === 0,
      scores: Float32Array.from(outputs[names.scores].data, Number),
      own: ownOf(outputs[names.own]),
      map: planeOf(map, map.type === "uint8" ? (value) => value / 255 : Number),
      raw: planeOf(raw, Number),
    });
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
};

function ownOf({ data, dims }) {
  return { data: data instanceof BigInt64Array ? Float64Array.from(data, Number) : data, dims };
}

function planeOf(tensor, read) {
  const [height, width] = tensor.dims.slice(1);
  return { data: Float32Array.from(tensor.data, read), height, width };
}

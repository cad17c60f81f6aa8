// What is in the image, and where: a bundle's fused graph in Node, without Python.
//
//   xai-export net.onnx --preprocess imagenet --labels labels.txt --fuse grad-cam --embed-preprocess --map-size input -o net.xai
//   npm install --ignore-scripts onnxruntime-node sharp
//   node classify_and_explain.mjs net.xai grad-cam photo.jpg overlay.png [class]

import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const [bundle, method, photo, overlay, chosen = "-1"] = process.argv.slice(2);
if (!overlay || !/^-?\d+$/.test(chosen)) {
  console.error("usage: node classify_and_explain.mjs NET.xai METHOD IMAGE OVERLAY.png [NUMBER OF A CLASS]");
  process.exit(2);
}
const manifest = JSON.parse(await readFile(`${bundle}/manifest.json`, "utf8"));
const labels = manifest.labels && (await readFile(`${bundle}/${manifest.labels}`, "utf8")).split("\n");

// The photograph as it is: uint8 [1,height,width,3]. The graph resizes and normalises.
const turned = await sharp(photo).rotate().toColourspace("srgb").removeAlpha().png().toBuffer();
const { data, info } = await sharp(turned).raw().toBuffer({ resolveWithObject: true });
const image = new ort.Tensor("uint8", data, [1, info.height, info.width, 3]);
const target = new ort.Tensor("int64", [BigInt(chosen)], [1]); // -1: the predicted class

const session = await ort.InferenceSession.create(`${bundle}/fused-${method}.onnx`);
const results = await session.run({ [manifest.input.name]: image, target });

const explained = manifest.outputs.find((output) => output.kind !== "other"); // there may be further outputs
const scores = results[explained.name].data;
const best = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 3);
for (const index of best) console.log(`${labels ? labels[index] : index}: ${scores[index].toFixed(3)}`);

// The map [1,h,w] as the opacity of a red layer, over the part of the photograph that the network saw.
const [, height, width] = results.saliency_map.dims;
const red = Buffer.alloc(4 * height * width);
results.saliency_map.data.forEach((value, i) => red.set([255, 0, 0, Math.round(200 * value)], 4 * i));
let seen = { width: info.width, height: info.height };
const { resize } = manifest.input.preprocess; // "stretch", or the shorter side before the centre is cut out
if (resize !== "stretch") {
  const scale = Math.min(info.width, info.height) / resize;
  seen = { width: Math.round(scale * manifest.input.width), height: Math.round(scale * manifest.input.height) };
}
const raw = { width, height, channels: 4 };
const layer = await sharp(red, { raw }).resize({ ...seen, fit: "fill" }).png().toBuffer();
await sharp(turned).composite([{ input: layer, gravity: "centre" }]).toFile(overlay);

/**
 * A picture -> the network's input, as `xai_deploy/preprocess.py`.
 *
 * A picture is {width, height, rows(top, count)}; `rows` gives RGBA bytes of whole rows, so that a large photograph is never
 * held unpacked. `spec` is the bundle's input: {layout, channels, height, width, dtype, embedded, preprocess}.
 */

import { axis, rint } from "./resample.js";

const LUMA = [0.299, 0.587, 0.114].map(Math.fround); // ITU-R BT.601
const STRIP = 1 << 20; // pixels unpacked at a time

/** Both sides, the shorter one becoming `side`; the longer is cut to whole pixels. */
function shorterTo(height, width, side) {
  return height <= width ? [side, Math.floor((side * width) / height)] : [Math.floor((side * height) / width), side];
}

/** A letterbox: the whole picture in the middle of a border. The corner is that of the input in pixels of the resized picture. */
function boxed(height, width, spec) {
  const ratio = Math.min(spec.height / height, spec.width / width);
  const size = [height, width].map((side) => Math.max(rint(side * ratio), 1));
  return { size, corner: [spec.height, spec.width].map((side, i) => 0 - rint((side - size[i]) / 2 - 0.1)) };
}

/** [rows, columns] of the whole resized picture, and [top, left] of the part that is cut from it; in a letterbox they are negative. */
export function geometry(height, width, spec) {
  const { resize } = spec.preprocess;
  if (resize === "stretch") return { size: [spec.height, spec.width], corner: [0, 0] };
  if (resize === "letterbox") return boxed(height, width, spec);
  const size = Array.isArray(resize) ? resize : shorterTo(height, width, resize);
  return { size, corner: [rint((size[0] - spec.height) / 2), rint((size[1] - spec.width) / 2)] };
}

/** The part of a picture that reaches the network, in whole pixels: at least 1 x 1, and inside it, as `preprocess.frame`. */
export function seenPart({ height, width }, spec) {
  if (spec.preprocess.resize === "letterbox") return { top: 0, left: 0, height, width };
  const { size, corner } = geometry(height, width, spec);
  const [down, across] = [height / size[0], width / size[1]];
  const top = Math.min(rint(corner[0] * down), height - 1);
  const left = Math.min(rint(corner[1] * across), width - 1);
  return {
    top,
    left,
    height: Math.min(Math.max(rint(spec.height * down), 1), height - top),
    width: Math.min(Math.max(rint(spec.width * across), 1), width - left),
  };
}

/** Where the network's input shows a picture, in pixels of the input: all of it, but for a letterbox's border. */
export function shownIn({ height, width }, spec) {
  if (spec.preprocess.resize !== "letterbox") return { top: 0, left: 0, height: spec.height, width: spec.width };
  const { size, corner } = geometry(height, width, spec);
  return { top: 0 - corner[0], left: 0 - corner[1], height: size[0], width: size[1] };
}

/** @returns {{data: Float32Array|Uint8Array, dims: number[]}} a batch of one, in the layout and type of the file's input. */
export function prepare(picture, spec) {
  if (spec.embedded) return wholePicture(picture);
  const planes = resampled(picture, spec);
  const area = spec.height * spec.width;
  const { color, scale, mean, std } = spec.preprocess;
  let channels = [0, 1, 2].map((c) => planes.subarray(c * area, (c + 1) * area));
  if (color === "BGR") channels.reverse();
  if (color === "GRAY") {
    const [r, g, b] = channels;
    channels = [r.map((_, i) => rint(LUMA[0] * r[i] + LUMA[1] * g[i] + LUMA[2] * b[i]))];
  }
  const f = Math.fround; // the arithmetic of float32, step by step
  const data = spec.dtype === "uint8" ? new Uint8ClampedArray(channels.length * area) : new Float32Array(channels.length * area);
  channels.forEach((plane, c) => {
    for (let i = 0; i < area; i++) {
      const value = f(f(f(plane[i] * f(scale)) - f(mean[c])) / f(std[c]));
      data[spec.layout === "NHWC" ? i * channels.length + c : c * area + i] = value; // clamped bytes round half to even
    }
  });
  const dims = spec.layout === "NHWC" ? [1, spec.height, spec.width, channels.length] : [1, channels.length, spec.height, spec.width];
  return { data: spec.dtype === "uint8" ? new Uint8Array(data.buffer) : data, dims };
}

/** Whole grey levels [3,height,width] of the part that reaches the network, in a letterbox with its border. */
function resampled(picture, spec) {
  const { interpolation, antialias, border } = spec.preprocess;
  const { size, corner } = geometry(picture.height, picture.width, spec);
  const [high, wide] = [0, 1].map((i) => Math.min(size[i], [spec.height, spec.width][i]));
  const [cut, before] = [corner.map((at) => Math.max(at, 0)), corner.map((at) => Math.max(-at, 0))];
  const across = axis(picture.width, size[1], interpolation, antialias, cut[1], wide);
  const down = axis(picture.height, size[0], interpolation, antialias, cut[0], high);
  const top = Math.min(...down.map(({ first }) => first));
  const rows = Math.max(...down.map(({ first, weights }) => first + weights.length)) - top;
  const narrow = new Float32Array(3 * rows * wide);
  const step = Math.max(1, Math.floor(STRIP / picture.width));
  for (let start = 0; start < rows; start += step) {
    const count = Math.min(step, rows - start);
    const rgba = picture.rows(top + start, count);
    for (let y = 0; y < count; y++) {
      across.forEach(({ first, weights }, x) => {
        const sum = [0, 0, 0];
        let at = 4 * (y * picture.width + first);
        for (const weight of weights) {
          for (let c = 0; c < 3; c++) sum[c] += weight * rgba[at + c];
          at += 4;
        }
        for (let c = 0; c < 3; c++) narrow[(c * rows + start + y) * wide + x] = sum[c];
      });
    }
  }
  const planes = new Float32Array(3 * spec.height * spec.width).fill(border);
  for (let c = 0; c < 3; c++) {
    down.forEach(({ first, weights }, y) => {
      for (let x = 0; x < wide; x++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(c * rows + first - top + k) * wide + x];
        planes[(c * spec.height + before[0] + y) * spec.width + before[1] + x] = Math.min(Math.max(rint(sum), 0), 255);
      }
    });
  }
  return planes;
}

/** RGB bytes [1,height,width,3], for graphs that hold the preprocessing themselves. */
function wholePicture({ height, width, rows }) {
  const data = new Uint8Array(height * width * 3);
  const step = Math.max(1, Math.floor(STRIP / width));
  for (let top = 0; top < height; top += step) {
    const rgba = rows(top, Math.min(step, height - top));
    for (let from = 0, to = 3 * top * width; from < rgba.length; from += 4, to += 3) {
      for (let c = 0; c < 3; c++) data[to + c] = rgba[from + c];
    }
  }
  return { data, dims: [1, height, width, 3] };
}

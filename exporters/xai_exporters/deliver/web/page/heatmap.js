/** From a file's maps to values that are drawn, as `xai_deploy/heatmap.py` and `xai_deploy/pictures`. */

import { axis, resizePlane } from "./resample.js";

const PERCENTILE = 0.99; // of maps at the pixels: what lies above is drawn as if it were this

/** A map [h,w] -> {data, height, width} in [0,1]: bilinear resize, min-max; a constant map gives zeros. */
export function heatmapOf(map, h, w, height, width) {
  const least = map.reduce((a, b) => Math.min(a, b), Infinity);
  const shifted = Float64Array.from(map, (value) => value - least);
  const data = resizePlane(shifted, h, w, height, width);
  const low = data.reduce((a, b) => Math.min(a, b), Infinity);
  const spread = data.reduce((a, b) => Math.max(a, b), -Infinity) - low || 1;
  return { data: data.map((value) => (value - low) / spread), height, width };
}

/**
 * The values that are drawn: [0,1], or [-1,1] with 0 neutral if the map is signed.
 * @param heatmap what `heatmapOf` gives
 * @param raw {data, height, width}: a signed map, which is resized and divided by its largest magnitude
 * @param atPixels the largest value, or magnitude, is the 99th percentile; larger ones are cut
 */
export function drawn(heatmap, raw, signed, atPixels) {
  const { height, width } = heatmap;
  const values = signed ? resizePlane(raw.data, raw.height, raw.width, height, width) : heatmap.data;
  const magnitudes = values.map(Math.abs);
  let largest = atPixels ? percentile(magnitudes) : 0;
  largest ||= magnitudes.reduce((a, b) => Math.max(a, b), 0) || 1; // fewer than 1 % of the pixels have a value: none is cut
  return { data: values.map((value) => Math.min(Math.max(value / largest, -1), 1)), height, width };
}

/** Interpolated linearly between the two nearest, as NumPy's. */
function percentile(values) {
  const sorted = values.slice().sort();
  const at = PERCENTILE * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

/**
 * Values at the network's input size on a part of a photo, as `xai_deploy/pictures/photo.py`.
 * @param values {data, height, width}
 * @param size [rows, columns] that the photo is resized to for the network; `corner` [top, left] of what is cut from that
 * @param photo [rows, columns] of the photo as it is shown
 * @param part {top, left, height, width} of it that is filled
 */
export function placed(values, { size, corner }, photo, part) {
  const down = folded(size[0], photo[0], part.top, part.height, corner[0], values.height);
  const across = folded(size[1], photo[1], part.left, part.width, corner[1], values.width);
  const rows = new Float64Array(values.height * part.width);
  for (let y = 0; y < values.height; y++) {
    across.forEach(({ at, weights }, x) => {
      rows[y * part.width + x] = weights.reduce((sum, weight, k) => sum + weight * values.data[y * values.width + at[k]], 0);
    });
  }
  const result = new Float32Array(part.height * part.width);
  down.forEach(({ at, weights }, y) => {
    for (let x = 0; x < part.width; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * rows[at[k] * part.width + x];
      result[y * part.width + x] = sum;
    }
  });
  return result;
}

/** An axis from the resized photo to the shown one; the map has `cropped` of its pixels, from `corner` on, and ends repeat. */
function folded(whole, shown, start, count, corner, cropped) {
  return axis(whole, shown, "bilinear", true, start, count).map(({ first, weights }) => ({
    at: weights.map((_, k) => Math.min(Math.max(first + k - corner, 0), cropped - 1)),
    weights,
  }));
}

/** Regions of dense scores: as `xai_deploy/targets/places.py` and `xai_deploy/in_regions.py`. */

import { PictureError } from "./picture.js";
import { seenPart, shownIn } from "./preprocess.js";
import { axis } from "./resample.js";

const BACKGROUND = /^_*(background|bg|unlabell?ed|void)_*$/i;
const STRIP = 1 << 20; // pixels of a mask unpacked at a time
const NUMBER = String.raw`-?\d+(?:\.\d+)?`;
const CORNERS = new RegExp(String.raw`^${NUMBER}\s*,\s*${NUMBER}(?:\s+${NUMBER}\s*,\s*${NUMBER})*$`);

/** The corners [[x, y], ...] that a text "x,y x,y x,y" names; null: it is no such text. */
export function cornersOf(text) {
  if (!text.trim()) return [];
  return CORNERS.test(text.trim()) ? text.trim().split(/(?<=\d)\s+(?=-?\d)/).map((pair) => pair.split(",").map(Number)) : null;
}

/** Whether corners enclose nothing, all of them on one line. */
export function onOneLine([[x0, y0], ...others]) {
  return others.every(([x1, y1]) =>
    others.every(([x2, y2]) => {
      const [one, other] = [(x1 - x0) * (y2 - y0), (x2 - x0) * (y1 - y0)];
      return Math.abs(one - other) <= 1e-9 * (Math.abs(one) + Math.abs(other)); // 0.3 - 0.1 is not 0.2
    }),
  );
}

/** The corners of {x, y, width, height}. */
export const boxCorners = ({ x, y, width, height }) => [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];

/**
 * The pixels whose centres lie inside a polygon (even-odd rule); of a small one at least the pixel in which it lies.
 * @param corners [[x, y], ...] in pixels of the picture
 * @returns y -> 1 for each pixel of that row that lies inside
 */
export function inside(corners, { height, width }) {
  const row = (y) => {
    const turns = new Uint8Array(width + 1); // where inside and outside change
    corners.forEach(([x0, y0], i) => {
      const [x1, y1] = corners[(i + 1) % corners.length];
      if (y0 <= y + 0.5 === y1 <= y + 0.5) return;
      const at = x0 + ((y + 0.5 - y0) * (x1 - x0)) / (y1 - y0);
      turns[0] ^= 1; // every centre before the edge
      turns[Math.min(Math.max(Math.ceil(at - 0.5), 0), width)] ^= 1;
    });
    for (let x = 1; x < width; x++) turns[x] ^= turns[x - 1];
    return turns.subarray(0, width);
  };
  const [low, high] = [Math.min, Math.max].map((of) => of(...corners.map(([, y]) => y)));
  for (let y = Math.max(Math.floor(low), 0); y < Math.min(Math.ceil(high), height); y++) if (row(y).includes(1)) return row;
  const [cx, cy] = [0, 1].map((i) => Math.floor(corners.reduce((sum, corner) => sum + corner[i], 0) / corners.length));
  return (y) => Uint8Array.from({ length: width }, (_, x) => Number(x === cx && y === cy));
}

/**
 * A picture with two values, the lower of which is outside -> {width, height, row: y -> 1 for each pixel inside}.
 * @throws {PictureError} it holds other values, or nothing but one
 */
export function maskOf({ width, height, rows }) {
  const bits = new Uint8Array(width * height);
  const step = Math.max(1, Math.floor(STRIP / width));
  let other = 0; // the value inside
  for (let top = 0; top < height; top += step) {
    const rgba = rows(top, Math.min(step, height - top));
    for (let from = 0, to = top * width; from < rgba.length; from += 4, to++) {
      const value = rgba[from];
      if (value !== rgba[from + 1] || value !== rgba[from + 2]) {
        throw new PictureError("A mask is black and white, and this picture has colours. Save the object white on black.");
      }
      if (value === 0) continue;
      if (value !== (other ||= value)) throw new PictureError(`A mask has two values, 0 outside and another inside; this one has 0, ${other} and ${value}.`);
      bits[to] = 1;
    }
  }
  if (!other) throw new PictureError("The mask is empty: all of it is black. Mark the region with white.");
  return { width, height, row: (y) => bits.subarray(y * width, (y + 1) * width) };
}

/**
 * The share of each position that a region covers, [height,width] of `scores`; null if the network sees nothing of it.
 * @param row y -> 1 for each pixel of that row of the picture that lies inside, as `inside` and `maskOf` give it
 */
export function share(row, picture, spec, scores) {
  const part = seenPart(picture, spec);
  const shown = shownIn(picture, spec);
  const down = cells(part.height, scores.height, shown.top / spec.height, (shown.top + shown.height) / spec.height);
  const across = cells(part.width, scores.width, shown.left / spec.width, (shown.left + shown.width) / spec.width);
  const result = new Float64Array(scores.height * scores.width);
  down.forEach(({ first: top, weights: rows }, y) => {
    const pixels = row(part.top + y);
    const line = new Float64Array(scores.width);
    across.forEach(({ first, weights }, x) => {
      if (pixels[part.left + x]) weights.forEach((weight, k) => (line[first + k] += weight));
    });
    rows.forEach((weight, k) => line.forEach((value, x) => (result[(top + k) * scores.width + x] += weight * value)));
  });
  return result.some((value) => value > 0) ? Float32Array.from(result) : null;
}

/**
 * For each of `own` equal cells between `start` and `stop`, shares of an axis: the first of `size` equal cells of the axis that it
 * meets, and its share of each from there on.
 */
function cells(own, size, start, stop) {
  const end = (j) => start + ((stop - start) * j) / own;
  return Array.from({ length: own }, (_, j) => {
    const first = Math.min(Math.floor(end(j) * size), size - 1);
    const last = Math.min(Math.ceil(end(j + 1) * size), size);
    const weights = [];
    for (let i = first; i < last; i++) weights.push((Math.min((i + 1) / size, end(j + 1)) - Math.max(i / size, end(j))) * size);
    return { first, weights: weights.map((weight) => Math.max(weight, 0)) };
  });
}

/**
 * The class that the network predicts at each position, [height,width] of `explained`; -1 for none. Null: codes of one class, which
 * do not say where half is.
 * @param own {data, dims} the network's own output
 * @param explained {height, width, half: above which a single class is predicted}
 */
export function predictedAt({ data, dims }, classes, layout, explained) {
  const sizes = dims.slice(1);
  const fitting = [0, 2].filter((at) => sizes.length === 3 && sizes[at] === classes);
  const at = fitting.length === 2 ? (layout === "NHWC" ? 2 : 0) : fitting[0];
  let places = sizes.filter((size) => size !== 1);
  let chosen;
  if (classes === 1) {
    if (!(data instanceof Float32Array)) return null;
    chosen = Int32Array.from(data, (score) => (score > explained.half ? 0 : -1));
  } else if (at === undefined) {
    chosen = Int32Array.from(data, Number);
  } else {
    places = sizes.filter((_, i) => i !== at);
    const area = places[0] * places[1];
    const score = at === 0 ? (c, p) => data[c * area + p] : (c, p) => data[p * classes + c];
    chosen = Int32Array.from({ length: area }, (_, p) => {
      let most = 0;
      for (let c = 1; c < classes; c++) if (score(c, p) > score(most, p)) most = c;
      return most;
    });
  }
  const { height, width } = explained;
  if (places.length !== 2 || (places[0] === height && places[1] === width)) return chosen;
  const [rows, columns] = [axis(places[0], height, "nearest", false), axis(places[1], width, "nearest", false)];
  return Int32Array.from(rows.flatMap(({ first: y }) => columns.map(({ first: x }) => chosen[y * places[1] + x])));
}

/** The class that is predicted at the most positions; the background only if nothing else is. */
export function mostFrequent(predicted, labels) {
  const counts = labels.map(() => 0);
  for (const index of predicted) if (index >= 0) counts[index]++;
  const background = labels.findIndex((label) => BACKGROUND.test(label));
  if (background >= 0 && counts.some((count, i) => count > 0 && i !== background)) counts[background] = 0;
  return counts.indexOf(Math.max(...counts));
}

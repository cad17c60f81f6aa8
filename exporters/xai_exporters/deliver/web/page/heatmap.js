/** From a file's `saliency_map` to the heatmap at the input's size, and to colours, as `xai_deploy/heatmap.py`. */

import { resizePlane, rint } from "./resample.js";

const TURBO = [
  [48, 18, 59], [70, 97, 219], [40, 165, 250], [36, 232, 165], [164, 252, 60], [238, 207, 58], [240, 100, 20], [122, 4, 3],
];

/** 256 colours, RGB. */
export const PALETTE = Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (TURBO.length - 1);
  const below = Math.min(Math.floor(at), TURBO.length - 2);
  return TURBO[below].map((shade, c) => rint(shade + (at - below) * (TURBO[below + 1][c] - shade)));
});

/** A map [h,w] -> {data, height, width} in [0,1]: bilinear resize, min-max; a constant map gives zeros. */
export function heatmapOf(map, h, w, height, width) {
  const least = map.reduce((a, b) => Math.min(a, b), Infinity);
  const shifted = Float64Array.from(map, (value) => value - least);
  const data = resizePlane(shifted, h, w, height, width);
  const low = data.reduce((a, b) => Math.min(a, b), Infinity);
  const spread = data.reduce((a, b) => Math.max(a, b), -Infinity) - low || 1;
  return { data: data.map((value) => (value - low) / spread), height, width };
}

/** A heatmap as opaque RGBA bytes of another size. */
export function colourise(heatmap, height, width) {
  const values = resizePlane(heatmap.data, heatmap.height, heatmap.width, height, width);
  const rgba = new Uint8ClampedArray(4 * height * width);
  values.forEach((value, i) => {
    const colour = PALETTE[rint(255 * Math.min(Math.max(value, 0), 1))];
    rgba.set(colour, 4 * i);
    rgba[4 * i + 3] = 255;
  });
  return rgba;
}

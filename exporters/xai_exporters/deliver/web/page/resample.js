/** Separable resampling, as `xai_deploy/resample.py`: the same filters, centres and borders. */

/** Round half to even, as NumPy's rint. */
export function rint(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function kernel(interpolation, distance, a) {
  const t = Math.abs(distance);
  if (interpolation === "bilinear") return Math.max(1 - t, 0);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

/**
 * How an axis of `source` pixels becomes one of `size`.
 * @returns for each of the `count` pixels from `start` on: its first source pixel, and the weights from there on.
 */
export function axis(source, size, interpolation, antialias, start = 0, count = size) {
  const stretch = antialias ? Math.max(source / size, 1) : 1;
  return Array.from({ length: count }, (_, row) => {
    const centre = (start + row + 0.5) * (source / size);
    if (interpolation === "nearest") {
      return { first: Math.floor(((2 * (start + row) + 1) * source) / (2 * size)), weights: [1] };
    }
    const reach = (interpolation === "bilinear" ? 1 : 2) * stretch;
    if (antialias) {
      const first = Math.max(Math.floor(centre - reach), 0);
      const end = Math.min(Math.ceil(centre + reach) + 1, source);
      const weights = [];
      for (let j = first; j < end; j++) weights.push(kernel(interpolation, (j + 0.5 - centre) / stretch, -0.5));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      return { first, weights: weights.map((weight) => weight / sum) };
    }
    const left = Math.floor(centre - 0.5);
    const offsets = interpolation === "bilinear" ? [0, 1] : [-1, 0, 1, 2];
    const clamp = (j) => Math.min(Math.max(j, 0), source - 1); // beyond the border the edge pixel repeats
    const first = clamp(left + offsets[0]);
    const weights = new Array(clamp(left + offsets.at(-1)) - first + 1).fill(0);
    for (const offset of offsets) {
      weights[clamp(left + offset) - first] += kernel(interpolation, left + offset + 0.5 - centre, -0.75);
    }
    return { first, weights };
  });
}

/** One plane [height,width] -> [newHeight,newWidth], bilinear and not antialiased, as maps are resized. */
export function resizePlane(plane, height, width, newHeight, newWidth) {
  const across = axis(width, newWidth, "bilinear", false);
  const rows = new Float64Array(height * newWidth);
  for (let y = 0; y < height; y++) {
    across.forEach(({ first, weights }, x) => {
      rows[y * newWidth + x] = weights.reduce((sum, weight, k) => sum + weight * plane[y * width + first + k], 0);
    });
  }
  const result = new Float32Array(newHeight * newWidth);
  axis(height, newHeight, "bilinear", false).forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * rows[(first + k) * newWidth + x];
      result[y * newWidth + x] = sum;
    }
  });
  return result;
}

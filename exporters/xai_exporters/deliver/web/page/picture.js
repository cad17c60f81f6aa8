/** Pictures from files and from the camera, as {name, width, height, rows, bitmap}. */

const MOST_PIXELS = 100_000_000; // as `xai_deploy/images.py`
const LONGEST_SIDE = 65_535;
const MOST_BYTES = 2 ** 30;

/** What is wrong, in words for the person at the page. */
export class PictureError extends Error {}

/**
 * A file's picture, upright as EXIF says; colours as stored, without a profile's correction, as OpenCV reads them.
 * @throws {PictureError}
 */
export async function openPicture(file) {
  const name = file.name ? `“${file.name}”` : "This file";
  if (file.size === 0) throw new PictureError(`${name} is empty. Choose a picture.`);
  if (file.size > MOST_BYTES) throw new PictureError(`${name} is larger than 1 GB. Choose a smaller picture.`);
  const size = await announcedSize(file);
  if (!size) {
    const kind = file.type && !file.type.startsWith("image/") ? ` (it is ${file.type})` : "";
    throw new PictureError(`${name} is not a picture that this browser can read${kind}. Choose a JPEG, PNG, WebP, GIF or BMP file.`);
  }
  const [width, height] = size;
  if (width * height > MOST_PIXELS || Math.max(width, height) > LONGEST_SIDE) {
    throw new PictureError(`${name} has ${width} x ${height} pixels, more than the page can take. Scale it down.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new PictureError(`${name} can't be decoded: it is cut off or damaged, or of a kind that this browser does not read. Choose another.`);
  }
  return pictureOf(bitmap, name, file.name.replace(/\.[^.]*$/, ""));
}

/** What the camera shows now. */
export async function takePicture(video) {
  return pictureOf(await createImageBitmap(video), "The camera's picture", "camera");
}

/** Width and height from the header, before the pixels are unpacked; null if it is no picture. */
async function announcedSize(file) {
  const url = URL.createObjectURL(file);
  try {
    return await new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve(image.naturalWidth ? [image.naturalWidth, image.naturalHeight] : null);
      image.onerror = () => resolve(null);
      image.src = url;
    });
  } finally {
    URL.revokeObjectURL(url);
  }
}

function pictureOf(bitmap, called, name) {
  const { width, height } = bitmap;
  // Strips: some phones refuse a canvas of the size of their own camera's pictures.
  const rows = (top, count) => {
    const strip = new OffscreenCanvas(width, count);
    const context = strip.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, count);
    // A canvas loses the colours beneath transparency, which OpenCV keeps. Alpha is the highest byte of a pixel.
    if (new Uint32Array(data.buffer).some((pixel) => pixel < 0xff000000)) {
      throw new PictureError(`${called} is transparent in places; a browser loses the colours there. Save it without transparency.`);
    }
    return data;
  };
  return { name, width, height, rows, bitmap };
}

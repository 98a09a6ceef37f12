// Pictures decoded beside the page, no larger than they are shown.

const TYPE = "image/jpeg";
/** Browsers scale a JPEG by eighths while they decode it, and down to what was asked for. */
const STEP = 1 / 8;

/**
 * Decode a JPEG, as upright as it says.
 *
 * @param {Uint8Array} jpeg
 * @param {{width: number, height: number}} from its size, as far as it is known.
 * @param {number} shown how many pixels wide it is shown; it may come out larger, not smaller.
 * @returns {Promise<{image: CanvasImageSource, width: number, height: number, close: () => void}
 *   | null>} null if this browser cannot.
 */
export async function decode(jpeg, from, shown) {
  try {
    return await decodeBeside(jpeg, from, shown);
  } catch {
    // There is no ImageDecoder; or the picture is damaged, and an element shows what there is.
    return decodeAsElement(jpeg, shown);
  }
}

async function decodeBeside(data, from, shown) {
  const decoder = new ImageDecoder({ data, type: TYPE, ...within(from, shown) });
  try {
    const { image } = await decoder.decode();
    const { displayWidth: width, displayHeight: height } = image;
    return { image, width, height, close: () => image.close() };
  } finally {
    decoder.close();
  }
}

function within({ width, height }, shown) {
  const desiredWidth = Math.ceil(shown + width * STEP);
  if (!(desiredWidth < width)) return {};
  return { desiredWidth, desiredHeight: Math.ceil((height * desiredWidth) / width) };
}

async function decodeAsElement(jpeg, shown) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([jpeg], { type: TYPE }));
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(image.src);
  }
  // Drawn no larger than it has to be: some browsers have little memory for canvases.
  const by = Math.max(1, Math.floor(image.naturalWidth / (shown || image.naturalWidth)));
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((n) => Math.ceil(n / by));
  return { image, width, height, close: () => {} };
}

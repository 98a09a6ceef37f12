// A picture made to a JPEG of a given size, with no more bytes than are allowed.

const BEST_QUALITY = 0.8;
const LEAST_QUALITY = 0.3;
const STEP = 0.1;

/** On the page, or in a worker: there is an OffscreenCanvas, or a page with a canvas. */
function makeCanvas(width, height) {
  if (self.OffscreenCanvas) return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

function toBlob(canvas, quality) {
  if (canvas.convertToBlob) return canvas.convertToBlob({ type: "image/jpeg", quality });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

export class JpegMaker {
  #canvas = null;
  #quality = BEST_QUALITY;

  /**
   * @param {VideoFrame | ImageBitmap} image is closed.
   * @param {{width: number, height: number, maxBytes: number}} wanted how it has to be.
   * @returns {Promise<Blob | null>} null when it has too many bytes in any quality of use.
   */
  async make(image, { width, height, maxBytes }) {
    if (this.#canvas?.width !== width || this.#canvas.height !== height) {
      this.#canvas = makeCanvas(width, height);
    }
    this.#canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0, width, height);
    image.close();
    while (true) {
      const jpeg = await toBlob(this.#canvas, this.#quality);
      if (jpeg.size <= maxBytes) return jpeg;
      if (this.#quality <= LEAST_QUALITY) return null;
      this.#quality = Math.max(LEAST_QUALITY, this.#quality - STEP);
    }
  }
}

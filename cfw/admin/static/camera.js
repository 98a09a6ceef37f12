// The camera: opening one, what it can do, and what its pictures become within the limits.

/** What is offered, where the camera and the worker can do it; as of a camera held level. */
const SIZES = [
  [3840, 2160],
  [1920, 1080],
  [1280, 720],
  [640, 480],
  [640, 360],
  [480, 360],
  [320, 240],
  [160, 120],
];
/** A camera without one for so long is held by a call, switched off by hand, or broken. */
const FIRST_PICTURE_MS = 10_000;

/** The factor by which a picture is made smaller to fit, at most 1. */
function factorFor([width, height], limits, box) {
  return Math.min(
    1,
    ...[box[0] / width, limits.max_width / width],
    ...[box[1] / height, limits.max_height / height],
    Math.sqrt(limits.max_pixels / (width * height)),
  );
}

const even = (pixels) => Math.max(2, Math.floor(pixels / 2) * 2);

/**
 * The size of frames: all of the picture, in its own shape, and not larger than was chosen.
 *
 * @param {{width: number, height: number}} picture as the camera gives it; upright when a phone
 *   is held so, and then what was chosen is turned with it.
 * @param {object} limits those of the worker.
 * @param {{width: number, height: number}} chosen for a camera held level.
 */
export function frameSize({ width, height }, limits, chosen) {
  const box = [chosen.width, chosen.height];
  if ((height > width) !== (box[1] > box[0])) box.reverse();
  const factor = factorFor([width, height], limits, box);
  if (factor === 1) return { width, height };
  return { width: even(width * factor), height: even(height * factor) };
}

/**
 * The sizes to choose from, as pairs.
 *
 * @param {object} limits those of the worker.
 * @param {{width: number, height: number} | null} most what the camera can do; null while that
 *   is not known.
 */
export function sizesFor(limits, most) {
  const fits = SIZES.filter(
    ([width, height]) =>
      factorFor([width, height], limits, [width, height]) === 1 &&
      (most === null || (width <= most.width && height <= most.height)),
  );
  if (fits.length > 0) return fits;
  // Limits smaller than every usual size still leave something to choose.
  const side = Math.floor(
    Math.min(limits.max_width, limits.max_height, Math.sqrt(limits.max_pixels)),
  );
  return [[side, side]];
}

/** A camera that was opened and shows nothing; `text` is the name of what is said of it. */
export class NoPicture extends Error {
  constructor(text) {
    super(text);
    this.text = text;
  }
}

export class Camera {
  #stream;

  constructor(stream) {
    this.#stream = stream;
    this.track = stream.getVideoTracks()[0];
  }

  /**
   * Ask for a camera; whoever holds the device may have to allow it.
   *
   * @param {{deviceId?: string, width: number, height: number, fps: number}} wanted the camera
   *   at the back of a phone if none is named.
   */
  static async open({ deviceId, width, height, fps }) {
    const wishes = {
      width: { ideal: width },
      height: { ideal: height },
      frameRate: { ideal: fps },
      ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } }),
    };
    return new Camera(await navigator.mediaDevices.getUserMedia({ video: wishes, audio: false }));
  }

  /** All that this device has; with names once one of them was allowed. */
  static async list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter(({ kind }) => kind === "videoinput");
  }

  get isOn() {
    return this.track.readyState === "live";
  }

  get deviceId() {
    return this.track.getSettings().deviceId;
  }

  /** Pictures a second, as it says; undefined if it does not. */
  get fps() {
    return this.track.getSettings().frameRate || undefined;
  }

  /** The largest picture it can take, held level; null when the browser does not say. */
  get most() {
    const { width, height } = this.#capabilities();
    if (!width?.max || !height?.max) return null;
    // Some tell what they can do as they are held.
    const [short, long] = [width.max, height.max].sort((a, b) => a - b);
    return { width: long, height: short };
  }

  get hasTorch() {
    return Boolean(this.#capabilities().torch);
  }

  async setTorch(isLit) {
    await this.track.applyConstraints({ advanced: [{ torch: isLit }] });
  }

  /** Let it show in a video element; resolves with its first picture, or rejects and is off. */
  async show(video) {
    const over = new AbortController();
    try {
      await Promise.race([this.#showsNothing(over.signal), this.#shows(video, over.signal)]);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      over.abort();
    }
  }

  async #shows(video, signal) {
    video.srcObject = this.#stream;
    await video.play();
    while (video.videoWidth === 0) {
      await new Promise((resolve) =>
        video.addEventListener("resize", resolve, { once: true, signal }),
      );
    }
  }

  /** Rejects once it has ended, or has taken too long; one that is muted may come back by then. */
  #showsNothing(signal) {
    return new Promise((_, reject) => {
      const end = () => reject(new NoPicture("camera_ended"));
      if (!this.isOn) end();
      this.track.addEventListener("ended", end, { signal });
      const timer = setTimeout(() => reject(new NoPicture("no_picture")), FIRST_PICTURE_MS);
      signal.addEventListener("abort", () => clearTimeout(timer));
    });
  }

  close() {
    for (const track of this.#stream.getTracks()) track.stop();
  }

  #capabilities() {
    return this.track.getCapabilities?.() ?? {};
  }
}

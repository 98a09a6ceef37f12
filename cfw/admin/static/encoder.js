// Where JPEGs are made: in a worker, so that the page keeps up with the camera; else on the page.

import { JpegMaker } from "./jpeg-maker.js";

const WORKER = "/static/encoder-worker.js";

/** The page's policy lets no text become a script, but for one that says which. */
function ownScript(url) {
  if (!window.trustedTypes) return url;
  const policy = trustedTypes.createPolicy("cfw", {
    createScriptURL: (text) => {
      if (text !== WORKER) throw new TypeError(`${text} is no script of this page`);
      return text;
    },
  });
  return policy.createScriptURL(url);
}

export class Encoder {
  /** Resolves when it is known where: a worker may still have to be loaded. */
  ready;
  #worker = null;
  #maker = new JpegMaker();
  #turn = Promise.resolve();
  /** What was handed in and is not made yet, in order. */
  #waiting = [];

  constructor() {
    this.restart();
  }

  /** Begin anew, without what is not made yet. */
  restart() {
    this.#worker?.terminate();
    this.#worker = null;
    this.#waiting = [];
    this.ready = this.#start();
  }

  /**
   * @param {VideoFrame | ImageBitmap} image is closed.
   * @param {{width: number, height: number, maxBytes: number}} wanted how the JPEG has to be.
   * @returns {Promise<Blob | null>} in the order of the calls; null when it has too many bytes.
   *   Rejects when this browser cannot make it.
   */
  encode(image, wanted) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      if (this.#worker !== null) {
        this.#worker.postMessage({ image, wanted }, [image]);
      } else {
        this.#turn = this.#turn.then(() => this.#onPage(image, wanted));
      }
    });
  }

  async #start() {
    if (!window.Worker || !window.OffscreenCanvas) return;
    try {
      this.#worker = new Worker(ownScript(WORKER), { type: "module" });
    } catch {
      return; // this browser knows no workers that are modules
    }
    const worker = this.#worker;
    await new Promise((resolve) => {
      worker.onmessage = ({ data }) => (data.isReady ? resolve() : this.#settle(data));
      worker.onerror = (event) => {
        event.preventDefault();
        this.#leave(worker);
        resolve();
      };
    });
  }

  /** It cannot be loaded, or has ended: from here on the page does it. */
  #leave(worker) {
    if (this.#worker !== worker) return;
    this.#worker = null;
    const lost = this.#waiting.splice(0);
    for (const { reject } of lost) reject(new Error("the worker of this page ended"));
  }

  async #onPage(image, wanted) {
    try {
      this.#settle({ jpeg: await this.#maker.make(image, wanted) });
    } catch (error) {
      this.#settle({ problem: error.message });
    }
  }

  #settle({ jpeg, problem }) {
    const { resolve, reject } = this.#waiting.shift() ?? {};
    if (problem !== undefined) reject?.(new Error(problem));
    else resolve?.(jpeg);
  }
}

// A thread of its own that makes JPEGs, one after the other.

import { JpegMaker } from "./jpeg-maker.js";

const maker = new JpegMaker();
let turn = Promise.resolve();

async function answer({ image, wanted }) {
  try {
    self.postMessage({ jpeg: await maker.make(image, wanted) });
  } catch (error) {
    self.postMessage({ problem: error.message });
  }
}

self.onmessage = ({ data }) => {
  turn = turn.then(() => answer(data));
};

self.postMessage({ isReady: true });

// A rig that is expected and has stopped coming: a tile without a picture.

/** Seconds in words that need not be exact. */
function since(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3_600)} h`;
}

export class MissingTile {
  element = document.querySelector("#missing").content.firstElementChild.cloneNode(true);
  captureId;
  rig;
  stage = "missing";
  troubles = [];
  // It never has a picture to show.
  isOnScreen = false;
  isFresh = false;
  isIdle = false;
  #why;

  /** @param {{name: string, user_id: string, session_id: string | null}} rig of the worker. */
  constructor(key, rig) {
    this.captureId = key;
    this.rig = rig;
    this.element.dataset.captureId = key;
    const { name, user_id, session_id } = rig;
    this.element.setAttribute("aria-label", `${name}, missing`);
    const part = (of) => this.element.querySelector(`[data-part=${of}]`);
    part("rig").textContent = name;
    part("who").textContent = session_id === null ? user_id : `${user_id} ${session_id}`;
    this.#why = part("why");
  }

  get words() {
    const { name, user_id, session_id } = this.rig;
    return [name, user_id, session_id ?? "", "missing"].join(" ").toLowerCase();
  }

  tell({ missing_s }) {
    this.troubles = [`missing for ${since(missing_s)}`, "no capture"];
    this.#why.textContent = `Missing for ${since(missing_s)}`;
  }
}

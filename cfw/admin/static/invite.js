// Inviting a phone from the live page: a code to scan, and who was invited.

import { copyText } from "./copy.js";
import { ask, getJson } from "./settings.js";

const LOOK_MS = 1_000;
const SVG = "http://www.w3.org/2000/svg";

const part = (name) => document.querySelector(`#invite-${name}`);

const STATES = {
  open: "waits to be scanned",
  used: "films",
  ended: "has ended",
  taken_back: "taken back",
};

/** Seconds as minutes and seconds, and long times in hours. */
function left(seconds) {
  if (seconds >= 3_600) return `${Math.round(seconds / 3_600)} h`;
  const rest = Math.ceil(seconds);
  return `${Math.floor(rest / 60)}:${String(rest % 60).padStart(2, "0")}`;
}

/** The dialog of the live page. */
export class Invite {
  #dialog = document.querySelector("#invite");
  #shown = null;
  #timer = 0;
  #invites = false;
  #asked = null;
  #problems = { make: "", look: "" };

  constructor() {
    // Who sits here films as everybody else does then: by an invitation.
    for (const link of document.querySelectorAll("a[href='/capture']")) {
      link.addEventListener("click", (event) => this.#invites && this.#filmHere(event));
    }
    part("open").onclick = () => this.#open();
    part("close").onclick = () => this.#dialog.close();
    part("another").onclick = () => this.#make();
    this.#dialog.onclose = () => this.#close();
    part("form").onsubmit = (event) => {
      event.preventDefault();
      this.#make();
    };
    part("copy").onclick = async () => {
      if (!(await copyText(part("link").textContent))) return;
      part("copy").textContent = "Copied";
      setTimeout(() => (part("copy").textContent = "Copy"), 2_000);
    };
  }

  /** What the worker says of itself; it may be another one after a break. */
  set info({ needs_invitation: invites, usual_session }) {
    part("open").hidden = !invites;
    this.#invites = invites;
    if (usual_session && part("user").value === "") {
      [part("user").value, part("session").value] = usual_session;
    }
  }

  #open() {
    this.#dialog.showModal();
    this.#complain("look", "");
    if (part("user").value && part("session").value) this.#make();
    this.#look();
  }

  async #filmHere(event) {
    event.preventDefault();
    try {
      location.assign((await this.#invite()).url);
    } catch {
      this.#open();
    }
  }

  #invite() {
    const body = { user_id: part("user").value, session_id: part("session").value };
    return ask("POST", "/invitations", body);
  }

  #close() {
    clearTimeout(this.#timer);
    // A link is a secret: nobody is to find it in a page that is left open.
    this.#hide();
  }

  async #make() {
    this.#hide();
    const asked = (this.#asked = {});
    try {
      const made = await this.#invite();
      // Closed meanwhile, or asked for another: then nobody waits for this link any more.
      if (this.#asked === asked) this.#show(made);
    } catch (error) {
      if (this.#asked === asked) this.#complain("make", error.message);
    }
  }

  /** Of the code that was asked for, else of the list; "" when that is well again. */
  #complain(what, text) {
    this.#problems[what] = text;
    const told = this.#problems.make || this.#problems.look;
    // Said once: a text that is set again is read out again.
    if (part("problem").textContent !== told) part("problem").textContent = told;
  }

  #show(made) {
    this.#shown = made.invitation_id;
    const code = part("code");
    code.setAttribute("viewBox", `0 0 ${made.qr.side} ${made.qr.side}`);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", made.qr.path);
    code.replaceChildren(path);
    part("link").textContent = made.url;
    part("fingerprint").textContent = made.fingerprint ?? "";
    part("certificate").hidden = made.fingerprint === null;
    part("scan").hidden = false;
    this.#tell(made);
  }

  #hide() {
    this.#shown = this.#asked = null;
    this.#complain("make", "");
    part("state").textContent = part("link").textContent = "";
    part("code").replaceChildren();
    part("scan").hidden = part("another").hidden = true;
  }

  async #look() {
    clearTimeout(this.#timer);
    const shown = this.#shown;
    try {
      this.#list((await getJson("/invitations")).invitations, shown);
      this.#complain("look", "");
    } catch {
      this.#complain("look", "The worker does not answer.");
    }
    if (this.#dialog.open) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  /** `asked` is what was shown when they were asked for: one made since is in the next list. */
  #list(invitations, asked) {
    const shown = invitations.find(({ invitation_id }) => invitation_id === this.#shown);
    if (shown) this.#tell(shown);
    // A worker that was started again knows nothing of it.
    else if (asked !== null && asked === this.#shown) this.#tell({ state: "ended" });
    part("list").replaceChildren(...invitations.map((each) => this.#row(each)));
    part("none").hidden = invitations.length > 0;
  }

  /** Of the code that is shown. */
  #tell({ state, user_id, session_id, ends_in_s }) {
    const who = `${user_id}, session ${session_id}`;
    if (state === "open") {
      part("state").textContent = `For ${who}: lets one phone in, once, within ${left(ends_in_s)}.`;
      return;
    }
    const told = { used: `${who} has joined.`, ended: "This code has ended." }[state];
    this.#hide();
    part("state").textContent = told ?? "This code was taken back.";
    part("another").hidden = false;
  }

  #row({ invitation_id, user_id, session_id, state, ends_in_s }) {
    const row = document.createElement("li");
    const text = document.createElement("span");
    const ends = ends_in_s > 0 ? `, ${left(ends_in_s)} left` : "";
    text.textContent = `${user_id}, session ${session_id}: ${STATES[state]}${ends}`;
    row.append(text);
    if (state === "open" || state === "used") {
      const end = document.createElement("button");
      [end.type, end.className, end.textContent] = ["button", "quiet", "Take back"];
      end.setAttribute("aria-label", `Take back the invitation of ${user_id}, ${session_id}`);
      end.onclick = async () => {
        await ask("DELETE", `/invitations/${invitation_id}`).catch(() => {});
        this.#look();
      };
      row.append(end);
    }
    return row;
  }
}

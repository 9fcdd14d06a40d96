// Pictures beside a question: read here, sent as data within it, and never as an address that somebody would have to load.

import { el, iconButton } from "./dom.js";

const MOST = 8;
const LARGEST = 8 * 1024 * 1024;
const KINDS = /^image\/(png|jpeg|gif|webp)$/;

export class Pictures {
  constructor(place, texts, { told, changed }) {
    this.#place = place;
    this.#texts = texts;
    this.#told = told;
    this.#changed = changed;
  }

  #place;
  #texts;
  #told;
  #changed;
  #addresses = [];

  get addresses() {
    return [...this.#addresses];
  }

  put(addresses) {
    this.#addresses = [...addresses];
    this.#show();
  }

  /** Its field is in no page: unfold's script would take one there for its own. */
  choose() {
    const field = el("input", { type: "file", accept: "image/png,image/jpeg,image/gif,image/webp", multiple: true });
    field.addEventListener("change", () => this.take([...field.files]));
    field.click();
  }

  async take(files) {
    for (const file of files) {
      if (!KINDS.test(file.type)) this.#told(this.#texts.picture_kind.replace("%s", file.name));
      else if (file.size > LARGEST) this.#told(this.#texts.picture_size.replace("%s", file.name));
      else if (this.#addresses.length >= MOST) this.#told(this.#texts.picture_count.replace("%s", MOST));
      else this.#addresses.push(await read(file));
    }
    this.#show();
  }

  #show() {
    this.#place.replaceChildren(
      ...this.#addresses.map((address, place) => {
        const remove = iconButton("close", this.#texts.remove_picture, () =>
          this.put(this.#addresses.filter((_, other) => other !== place)),
        );
        return el(
          "span",
          { class: "gw-play-picture" },
          el("img", { src: address, alt: this.#texts.picture.replace("%s", place + 1) }),
          remove,
        );
      }),
    );
    this.#changed();
  }
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

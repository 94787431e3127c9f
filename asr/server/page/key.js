/** The key that a server may ask for: asked once, kept until the tab closes. */

const NAME = "rill-key";

export class KeyDialog {
  #dialog = document.getElementById("key-dialog");
  #input = document.getElementById("key");
  #hint = document.getElementById("key-hint");
  value = "";

  constructor() {
    try {
      this.value = sessionStorage.getItem(NAME) ?? "";
    } catch {
      // storage may be forbidden: the key then lasts as long as the page
    }
    document.getElementById("key-cancel").addEventListener("click", () => this.#dialog.close("cancel"));
  }

  /** Asks for a key; resolves to whether one was given. */
  ask() {
    if (this.value) this.#hint.textContent = "The server does not take that key. Check it and try again.";
    this.#input.value = "";
    this.#dialog.returnValue = "cancel"; // what Escape leaves
    this.#dialog.showModal();
    return new Promise((resolve) => {
      this.#dialog.onclose = () => {
        const given = this.#dialog.returnValue !== "cancel";
        if (given) this.#keep(this.#input.value.trim());
        resolve(given);
      };
    });
  }

  #keep(value) {
    this.value = value;
    try {
      sessionStorage.setItem(NAME, value);
    } catch {
      // as above
    }
  }
}

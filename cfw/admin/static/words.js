// What a page says, in its language: the worker has put the table of it into the page.

export const language = document.documentElement.lang;

const { film: TEXTS, details: DETAILS } = JSON.parse(document.querySelector("#words").textContent);
const FORMS = new Intl.PluralRules(language);
const NUMBERS = new Intl.NumberFormat(language);

export const count = (n) => NUMBERS.format(n);

/**
 * A text by its name.
 *
 * @param {Record<string, string | number>} values what stands in its braces; numbers are written
 *   as the language does. Of several forms, the one for so many as `n` is taken.
 */
export function say(name, values = {}) {
  const text = TEXTS[name];
  const form = typeof text === "string" ? text : (text[FORMS.select(values.n)] ?? text.other);
  return form.replace(/\{(\w+)\}/g, (_, key) => {
    const value = values[key];
    return typeof value === "number" ? count(value) : value;
  });
}

/** What the worker says to who films; null where there are no words for it in this language. */
export const known = (detail) => (Object.hasOwn(DETAILS, detail) ? DETAILS[detail] : null);

/** Words of the worker or the browser, which are marked as English where they remain it. */
export function quoted(detail) {
  if (detail === null || known(detail) !== null) return known(detail);
  const span = document.createElement("span");
  [span.lang, span.textContent] = ["en", detail];
  return span;
}

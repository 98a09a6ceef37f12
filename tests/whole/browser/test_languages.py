"""Participants' pages in their language: every text of it, numbers and room for long words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from cfw.admin import words
from cfw.admin.words import WORDS, Text, Words
from cfw.errors import INVITATION_ENDED, OPERATOR_ENDED
from cfw.testing.fakes import RecordingSink
from tests.unit.film.kit import invited, operator
from tests.whole.browser.cameras import bring_camera
from tests.whole.browser.chromium import Page
from tests.whole.browser.sight import resize, sticks_out
from tests.whole.browser.test_capture import begin, run
from tests.whole.browser.test_pages import admin
from tests.whole.browser.test_truth import delete
from tests.whole.browser.visits import Visit

#: All that a person reads or has read out, but for what is marked as English, names and code.
SAID = """
(() => {
  const foreign = (element) =>
    element.closest("[lang]:not(html), code, script, noscript, style, .brand") !== null;
  const said = [];
  for (const element of document.querySelectorAll("*")) {
    if (foreign(element)) continue;
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    said.push(own.map(({ data }) => data).join(""));
    for (const name of ["aria-label", "aria-valuetext", "alt", "placeholder", "title"]) {
      const text = element.getAttribute(name);
      if (text !== null) said.push(text);
    }
  }
  return said.map((text) => text.trim()).filter((text) => text !== "");
})()
"""
KIND = "['good', 'warn', 'bad'].includes(document.querySelector('#result').dataset.kind)"
FILMING = "document.querySelector('#sent').textContent"


async def speak(page: Page, language: str) -> None:
    """A browser of somebody who reads this language."""
    agent = await page.run("navigator.userAgent")
    await page.call(
        "Network.setUserAgentOverride", userAgent=agent, acceptLanguage=f"{language},en;q=0.5"
    )


async def facts_of(page: Page) -> dict[str, str]:
    found: dict[str, str] = await page.run(
        "Object.fromEntries([...document.querySelectorAll('#result dt')]"
        ".map(dt => [dt.textContent, dt.nextSibling.textContent]))"
    )
    return found


async def ready(page: Page, url: str) -> None:
    """The page with its camera on."""
    await page.goto(url)
    await page.until("!document.querySelector('#turn-on').disabled")
    await page.click("#turn-on")
    await page.until("document.querySelector('#preview').videoWidth > 0")


def fenced(text: Text) -> Text:
    """The same, so that it is seen where it begins and ends."""
    if isinstance(text, str):
        return f"⟦{text}⟧"
    return {form: str(fenced(each)) for form, each in text.items()}


def fenced_in(told: Any) -> Any:
    """All texts below this."""
    if isinstance(told, Mapping):
        return {name: fenced_in(each) for name, each in told.items()}
    return fenced(told)


@pytest.fixture
def fences(monkeypatch: pytest.MonkeyPatch) -> None:
    """German whose texts are fenced, so that what is none of them stands outside."""
    told = {
        name: fenced_in(value)
        for name, value in attrs.asdict(WORDS["de"], recurse=False).items()
        if name != "language"
    }
    monkeypatch.setitem(words.WORDS, "de", Words(language="de", **told))


def outside(said: list[str]) -> list[str]:
    """What stands outside of every fence, and has letters."""
    found = []
    for text in said:
        rest, before = text, ""
        while rest != before:
            rest, before = re.sub(r"⟦[^⟦⟧]*⟧", "", rest), rest
        if re.search(r"[^\W\d_]", rest):
            found.append(text)
    return found


#: What is a name and no word: of who films, of captures, of codes, and sizes.
NAMES = re.compile(r"ada|s-1|[0-9a-f]{8}-[0-9a-f-]{27}(\.\d+)?|[a-z]+_[a-z_]+|wss?://\S+")


async def check(page: Page) -> None:
    """Nothing is said but texts of the language."""
    said = [NAMES.sub("", text) for text in await page.run(SAID)]
    assert outside(said) == []
    assert sum("⟦" in text for text in said) > 20


async def test_nothing_is_said_that_is_not_in_the_table(visit: Visit, fences: None) -> None:
    """Before, while it films, green, amber, nothing filmed, ended by an operator, refused."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page, torch=1)
        await speak(page, "de")
        await ready(page, admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await page.until("!document.querySelector('#torch').hidden")
        await check(page)
        await page.type("#fps", "1")
        await begin(page)
        # Within the page, so that it is no pause when the machine is busy.
        await page.run("fake.pictures(4, 50)")
        await check(page)
        await page.click("#go")
        await page.until(KIND)
        await check(page)
        await begin(page)
        for cause in ("mute(true)", "mute(false)", "hide(true)"):
            await page.run(f"fake.picture().then(() => fake.{cause})")
            await page.until("document.querySelector('#now').textContent")
            await check(page)
        await page.run("fake.hide(false); fake.unseen = 4; fake.pictures(2, 70)")
        await page.run("fake.pictures(1, 70).then(() => fake.pullOut())")
        await page.until(KIND)
        await check(page)
        assert await page.run("document.querySelector('#result').dataset.kind") == "warn"
        await page.click("#turn-on")
        await page.until("document.querySelector('#off').hidden")
        await begin(page)
        await page.click("#go")
        await page.until(KIND)
        await check(page)
        await begin(page)
        await page.run("fake.pictures(2, 70)")
        await page.until("document.querySelector('#sent').textContent.includes('2')")
        running_one = sink.captures[-1].opened.capture_id
        assert await delete(worker, running_one) == 204
        await page.until("document.querySelector('#result').dataset.kind === 'bad'")
        await check(page)
        facts = await facts_of(page)
        assert "session_closed" in facts.values()
        assert WORDS["de"].details[OPERATOR_ENDED] in facts.values()
        # No camera, and a worker that is gone.
        await page.run(
            "navigator.mediaDevices.getUserMedia = async () => "
            "{ throw new DOMException('in English', 'AbortError') }; fake.pullOut()"
        )
        await page.click("#turn-on")
        await page.until("document.querySelector('#result [lang=en]')")
        await check(page)


async def test_who_is_not_let_in_is_told_in_the_language(visit: Visit, fences: None) -> None:
    """Without a code, and by one that is none; and who is let in sees nothing else."""
    async with visit(invitations__enabled=True) as (worker, page):
        await speak(page, "de")
        made = await invited(worker)
        link, _, secret = made["url"].partition("#")
        shown = "document.querySelector('#uninvited:not([hidden])')"
        for fragment in ("", "#i=none"):
            await page.goto("about:blank")
            await page.goto(link + fragment)
            await page.until(shown)
            await check(page)
        known = "this invitation is not known here, or has ended long ago"
        assert WORDS["de"].details[known] in await page.text("#uninvited")
        await page.goto("about:blank")
        await page.goto(f"{link}#{secret}")
        await page.until("document.querySelector('#user').readOnly")
        await check(page)


async def test_whose_invitation_is_over_is_told_that_in_the_language(
    visit: Visit, fences: None
) -> None:
    """Neither that the session has ended, nor of a token, which nobody has who was invited."""
    settings = {"invitations__enabled": True, "times__session_recheck_s": 0.05}
    sink = RecordingSink()
    async with visit(sink=sink, **settings) as (worker, page):
        await bring_camera(page)
        await speak(page, "de")
        made = await invited(worker)
        await ready(page, made["url"])
        await begin(page)
        async with operator(worker) as admin_s:
            await admin_s.delete(f"/invitations/{made['invitation_id']}")
        is_bad = "document.querySelector('#result').dataset.kind === 'bad'"
        await page.until(is_bad)
        await check(page)
        told = WORDS["de"]
        case = told.codes["session_closed"]["cases"][INVITATION_ENDED]
        assert await page.text("#result h2") == case["meaning"]
        assert case["rig"] in await page.text("#result")
        assert told.details[INVITATION_ENDED] in (await facts_of(page)).values()
        # The next connection of its phone, which is not let in any more.
        await page.run("document.querySelector('#result').dataset.kind = 'none'")
        await page.click("#go")
        await page.until(is_bad)
        await check(page)
        why = told.details[INVITATION_ENDED]
        assert str(told.film["not_let_in"]).replace("{why}", why) in await page.text("#result")
        facts = await facts_of(page)
        assert "401" in facts.values()
        assert str(told.film["fact_says"]) not in facts
        assert await page.run("document.querySelector('#result [lang]')") is None


#: What an answer means, and whether the worker's own words stand beside it.
REFUSED = """[[401, true], [401, false], [503, true]].map(([status, isInvited]) => {
  const {lines, said} = made.refusalText({status, detail: "in English"}, isInvited);
  return [lines.join(" "), said?.textContent ?? null];
})"""


@pytest.mark.parametrize("language", sorted(WORDS))
async def test_who_was_invited_is_told_of_the_invitation_and_not_of_a_token(
    visit: Visit, language: str
) -> None:
    """Who came with a token is told of that; any other answer means the same to both."""
    async with visit() as (worker, page):
        await speak(page, language)
        await page.goto(admin(worker.addresses, "/capture"))
        words = WORDS[language]
        why = words.details[INVITATION_ENDED]
        assert await run(page, "film-words.js", f"return {REFUSED}") == [
            [str(words.film["not_let_in"]).replace("{why}", why), None],
            [words.film["refused_401"], "in English"],
            [words.film["refused_503"], "in English"],
        ]


#: A film as its page knows it, and what is told of that: by language, the numbers of it.
OUTCOME = """{
  framesSent: 12345, receipt: {frames: 12345, bytes: 9876543}, filmedMs: 1000,
  cameraFps: 12.34, fps: 15, parts: [{captureId: "a"}, {captureId: "b"}],
  skipped: {page: 1, encoder: 0, line: 2, lost: 3, size: 0}, pauses: [], end: "time",
  lost: {times: 2, ms: 4321}, breaks: [{code: "connection_lost", detail: null}]
}"""
NUMBERS = {
    "en": ["12,345", "9,876,543", "6", "12.3 of 15", "9.88 MB", "50.0 MB"],
    "de": ["12.345", "9.876.543", "6", "12,3 von 15", "9,88\u00a0MB", "50,0\u00a0MB"],
    "fr": [
        "12\u202f345",
        "9\u202f876\u202f543",
        "6",
        "12,3 sur 15",
        "9,88\u00a0Mo",
        "50,0\u00a0Mo",
    ],
}


@pytest.mark.parametrize("language", sorted(WORDS))
async def test_the_page_that_films_speaks_the_language_of_who_reads_it(
    visit: Visit, language: str
) -> None:
    """Its texts, its numbers, its plurals; the name of the language for who has it read out."""
    async with visit() as (worker, page):
        await bring_camera(page)
        await speak(page, f"{language}-CH")
        await ready(page, admin(worker.addresses, "/capture#user=ada&session=s-1"))
        told = WORDS[language]
        assert await page.run("document.documentElement.lang") == language
        assert await page.text("h1") == told.capture["title"]
        *numbers, size, limit = NUMBERS[language]
        assert limit in await page.text("#limits")
        outcome: dict[str, Any] = await run(
            page,
            "film-words.js",
            f"return {{facts: made.factsOf({OUTCOME}), ...made.resultText({OUTCOME})}}",
        )
        assert [value for _, value in outcome["facts"]][:4] == numbers
        plurals = [("page", "one"), ("line", "other"), ("lost", "other")]
        missed = [told.film[f"skipped_{why}"][form] for why, form in plurals]  # type: ignore[index]
        texts = [each.replace("{n}", str(n)) for n, each in enumerate(missed, 1)]
        assert set(texts) < set(outcome["lines"])
        assert outcome["title"] == told.film["title_lost"]
        before, after = str(told.film["lost"]).split("{time}")
        pauses = str(told.film["in_pauses"]).partition("{time}")[2].replace("{n}", "2")
        (lost,) = (line for line in outcome["lines"] if line.endswith(after))
        assert lost.startswith(before)
        assert pauses in lost
        assert size in outcome["lines"][0]
        await begin(page)
        left = "^" + str(told.film["left"]).replace("{time}", "[0-9]+[.,][0-9]\\ss") + "$"
        assert re.fullmatch(left, await page.text("#left"))
        forms: Any = told.film["frames"]
        for number, form in ((1, "one"), (2, "other")):
            await page.run("fake.picture()")
            said = forms[form].replace("{n}", str(number))
            await page.until(f"{FILMING}.startsWith('{said},')")
        await page.click("#go")
        await page.until(KIND)
        assert (await facts_of(page))[str(told.film["fact_frames"])] == "2"
        assert page.problems == []


@pytest.mark.parametrize("language", sorted(WORDS))
async def test_long_words_have_room(visit: Visit, language: str) -> None:
    """At 320 px, with text of twice the size, before and after a film that was refused."""
    async with visit() as (worker, page):
        await speak(page, language)
        await resize(page, 320, 640, mobile=True)
        await ready(page, admin(worker.addresses, "/capture#user=ada&session=wrong"))
        assert await sticks_out(page) == []
        await page.click("#go")
        await page.until("document.querySelector('#result').dataset.kind === 'bad'")
        assert await sticks_out(page) == []
        facts = await facts_of(page)
        detail = "the session is unknown or belongs to another user"
        assert (
            facts[str(WORDS[language].film["fact_detail"])] == WORDS[language].details[detail]
        )
        await page.run("document.documentElement.style.fontSize = '200%'")
        assert await sticks_out(page) == []

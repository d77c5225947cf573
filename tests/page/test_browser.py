"""The page in a real browser, as users meet it: pointer, touch, pen, keys, and nothing that leaves the page.

To renew the guide's screenshot: GPUNET_SCREENSHOT=docs/page.png python -m pytest tests/page -k screenshot
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import gpunet
import page_speed
from gpunet import digits, predict
from gpunet.layers import HIDDEN_ACTIVATIONS
from gpunet.page import command
from harness.browser import browser_problem, open_browser
from support.devices import refuse_or_skip
from support.pens import Line, own_digits, traced

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

if problem := browser_problem():
    refuse_or_skip("CI", problem, allow_module_level=True)

HOSTILE = [
    "</script><script>window.hacked = true</script>",
    "<img src=x onerror='window.hacked=1'>",
    "&lt;b&gt; ${hacked} $policy",
    "<!-- <script>",
    "javascript:alert(1)",
    "Är\u2028mel \u202e \U0001f45f",
    "' \" ` \\",
    "]]>",
    "__proto__",
    "x" * 60,
]
# What of the page is cut off, runs out of its card, covers another card, or has no room for bars.
LAYOUT_FAULTS = """
const bars = [...document.querySelectorAll(".bar")].map((bar) => bar.getBoundingClientRect().width);
const cards = [...document.querySelectorAll(".card")].filter((card) => card.offsetParent);
const faults = [];
if (document.documentElement.scrollWidth > window.innerWidth) faults.push("the page is wider than the window");
if (Math.min(...bars) < 40) faults.push("a bar of " + Math.min(...bars) + " pixels");
for (const card of cards) {
  const frame = card.getBoundingClientRect();
  for (const other of cards) {
    const its = other.getBoundingClientRect();
    const across = its.left < frame.right - 1 && its.right > frame.left + 1;
    if (other !== card && across && its.top < frame.bottom - 1 && its.bottom > frame.top + 1) {
      faults.push(card.id + " overlaps " + other.id);
    }
  }
  for (const part of card.querySelectorAll("*")) {
    const its = part.getBoundingClientRect();
    if (!its.width || part.closest("#strip, .unseen")) continue;
    if (its.left < frame.left - 1 || its.right > frame.right + 1 || its.bottom > frame.bottom + 1) {
      faults.push((part.id || part.textContent) + " leaves " + card.id);
    }
    const isBlock = getComputedStyle(part).display !== "inline" && part.tagName !== "BUTTON";
    if (isBlock && part.scrollWidth > part.clientWidth + 1) {
      faults.push((part.id || part.textContent) + " is wider than its place in " + card.id);
    }
  }
}
return faults;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(digit_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pages of the same network with 16 and 32 bits, and one with hostile names and other images."""
    folder = tmp_path_factory.mktemp("pages")
    for name, more in (("16", []), ("32", ["--float32"])):
        assert (
            command.main([str(digit_model), "-o", str(folder / f"{name}.html"), "--device", "cpu", "--quiet", *more])
            == 0
        )
    rng = np.random.default_rng(0)
    y = np.arange(60) % 10
    x = np.uint8(rng.integers(0, 200, (60, 28, 28)))
    np.savez(folder / "<b>$style.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    (folder / "labels.txt").write_text("\n".join(HOSTILE), encoding="utf-8")
    model = folder / "'\"><img src=x onerror=window.hacked=1>.safetensors"
    gpunet.load(digit_model, device="cpu").save(model)
    options = ["--data", folder / "<b>$style.npz", "--labels", folder / "labels.txt", "--device", "cpu", "--quiet"]
    assert command.main([*map(str, [model, "-o", folder / "hostile.html", *options])]) == 0
    return folder


@pytest.fixture
def page(browser: Chrome, pages: Path) -> Iterator[Chrome]:
    """The page with 16 bits, just opened. The console must stay empty, and nothing but the file may be requested."""
    yield from opened(browser, pages / "16.html")


def opened(browser: Chrome, path: Path) -> Iterator[Chrome]:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen(1600, 1000))
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    browser.get_log("performance")
    browser.get(path.as_uri())
    settled(browser)
    yield browser
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = {event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"}
    assert path.as_uri() in addresses
    assert {address for address in addresses if not address.startswith("data:")} == {path.as_uri()}


def screen(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}


def settled(browser: Chrome) -> None:
    """Wait until changes are computed and painted."""
    browser.execute_async_script(
        "const [done] = arguments, next = requestAnimationFrame; next(() => next(() => next(done)))"
    )


def draw(browser: Chrome, lines: list[Line], **more: object) -> None:
    """Press the mouse on the sheet, move it along each line, and let it go."""
    left, top, side = browser.execute_script(
        "const { left, top, width } = thinking.sheet.canvas.getBoundingClientRect(); return [left, top, width]"
    )
    for line in lines:
        for number, (x, y) in enumerate([*line, line[-1]]):
            kind = "mousePressed" if number == 0 else "mouseReleased" if number == len(line) else "mouseMoved"
            event = {
                "type": kind,
                "x": left + side * x,
                "y": top + side * y,
                "button": "left",
                "buttons": 1,
                "clickCount": 1,
            }
            browser.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, **more})
    settled(browser)


def seen(browser: Chrome) -> np.ndarray:
    """The image that the network sees, (28, 28) uint8."""
    pixels = browser.execute_script("return Array.from(thinking.state.input, (x) => Math.round(255 * x))")
    return np.array(pixels, np.uint8).reshape(28, 28)


def strokes(browser: Chrome) -> list[Any]:
    return browser.execute_script("return thinking.sheet.strokes")


def probabilities(browser: Chrome) -> np.ndarray:
    return np.array(browser.execute_script("return Array.from(thinking.state.results.at(-1).outputs)"))


def text(browser: Chrome, name: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def announced(browser: Chrome) -> str:
    """What a screen reader announces once nothing has changed for a while."""
    return browser.execute_async_script(
        "const done = arguments[0], line = document.getElementById('announcement');"
        "new MutationObserver((_, watcher) => { watcher.disconnect(); done(line.textContent); })"
        ".observe(line, { childList: true, characterData: true, subtree: true })"
    )


def press(browser: Chrome, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    chain = ActionChains(browser, duration=0)
    for key in keys:
        chain.send_keys(key)
    chain.perform()
    settled(browser)


def test_drawn_digits_are_recognized_as_by_gpunet_predict(
    page: Chrome, mnist: gpunet.Dataset, digit_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten traced from test images that the network recognizes, and ten of our own: nine of ten are right. `gpunet
    predict` gets the page's images, and pictures of the sheet: same class, and for the images also same probabilities.
    """
    told_right = gpunet.load(digit_model, device="cpu").predict(mnist.test.images).argmax(axis=1) == mnist.test.labels
    first = [int(np.flatnonzero((mnist.test.labels == digit) & told_right)[0]) for digit in range(10)]
    classes, told = [], []
    for kind, drawings in (("own", own_digits()), ("traced", [traced(mnist.test.images[n]) for n in first])):
        for digit, lines in enumerate(drawings):
            page.execute_script("thinking.sheet.clear()")
            draw(page, lines)
            image = seen(page)
            np.testing.assert_array_equal(image, digits.from_strokes(strokes(page)))  # what Python makes of them
            told.append(probabilities(page))
            classes.append(int(told[-1].argmax()))
            assert text(page, "guess-name") == str(classes[-1])
            Image.fromarray(image).save(tmp_path / f"image-{kind}-{digit}.png")
            sheet = page.execute_script("return document.getElementById('sheet').toDataURL()").partition(",")[2]
            (tmp_path / f"sheet-{kind}-{digit}.png").write_bytes(base64.b64decode(sheet))
    right = np.array(classes).reshape(2, 10) == np.arange(10)
    assert (right.sum(axis=1) >= 9).all()

    assert predict.main([str(digit_model), str(tmp_path), "--json", "--device", "cpu"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == 40
    for result, expected, tells in zip(results[:20], classes, told, strict=True):
        assert result["class"] == expected
        np.testing.assert_allclose(result["probabilities"], tells, atol=0.01)
    assert sum(result["class"] == expected for result, expected in zip(results[20:], classes, strict=True)) >= 18


def test_the_page_makes_the_same_images_of_strokes_as_python(page: Chrome) -> None:
    """To the last bit: scribbles by fine, normal and broad pens, dots, and lines along the sides."""
    rng = np.random.default_rng(0)
    drawings = [[[[5, 5, 3]]], [[[0, 0, 1], [0, 100, 1]]], [[[0, 0, 10], [100, 0, 10]]], [[[1, 1, 50], [2, 2, 50]]]]
    for _ in range(60):
        lengths = rng.integers(1, 20, rng.integers(1, 4))
        pens = rng.uniform(0.2, 1, 2) * rng.choice([3, 12, 40])
        walks = [(rng.normal(0, 10, (n, 2)).cumsum(axis=0), rng.uniform(pens.min(), pens.max(), n)) for n in lengths]
        drawings.append([np.column_stack(walk).tolist() for walk in walks])
    made = page.execute_script("return arguments[0].map((strokes) => Array.from(imageOfStrokes(strokes)))", drawings)
    expected = [digits.from_strokes(strokes).ravel() for strokes in drawings]
    np.testing.assert_array_equal(np.array(made), expected)


def test_the_page_computes_what_the_model_does_for_every_activation(page: Chrome, mnist: gpunet.Dataset) -> None:
    """200 test images, with float32 weights that give sums of many magnitudes."""
    images = mnist.test.images[:200]
    page.execute_script("window.images = bytesOf(arguments[0])", base64.b64encode(images.tobytes()).decode())
    for activation in HIDDEN_ACTIVATIONS:
        layers = [gpunet.Dense(units, activation, input_dim=n) for units, n in ((30, 784), (20, None))]
        model = gpunet.Sequential([*layers, gpunet.Dense(10, "softmax")], seed=1)
        model.compile(gpunet.Adam(0.01), "sparse_categorical_crossentropy", device="cpu", engine="reference")
        model.fit(images, mnist.test.labels[:200], batch_size=10, epochs=8, verbose=0)
        numbers = b"".join(array.astype("<f4").tobytes() for array in model.get_weights())
        computed = page.execute_script(
            "const [activation, numbers] = arguments, activations = [activation, activation, 'softmax'];"
            "const layers = layersOf([784, 30, 20, 10], activations, numbersOf(numbers, 32));"
            "return Array.from({ length: 200 }, (_, n) => {"
            "  const input = Array.from(images.subarray(784 * n, 784 * (n + 1)), (x) => x / 255);"
            "  return Array.from(forward(layers, input).at(-1).outputs); })",
            activation,
            base64.b64encode(numbers).decode(),
        )
        expected = model.predict(images)
        assert np.ptp(expected) > 0.9, activation
        np.testing.assert_allclose(computed, expected, atol=1e-5, err_msg=activation)


def test_16_bits_cost_at_most_5_of_10_000_images_in_the_browser_too(
    page: Chrome, digit_model: Path, mnist: gpunet.Dataset
) -> None:
    page.execute_script("window.images = bytesOf(arguments[0])", base64.b64encode(mnist.test.images.tobytes()).decode())
    guesses = page.execute_script(
        "return Array.from({ length: 10000 }, (_, n) => {"
        "  const input = Float32Array.from(images.subarray(784 * n, 784 * (n + 1)), (x) => x / 255);"
        "  const { outputs } = forward(thinking.layers, input).at(-1);"
        "  return outputs.indexOf(Math.max(...outputs)); })"
    )
    expected = gpunet.load(digit_model, device="cpu").predict(mnist.test.images).argmax(axis=1)
    assert abs(int((guesses == mnist.test.labels).sum()) - int((expected == mnist.test.labels).sum())) <= 5
    assert (guesses == expected).sum() >= 9990


def test_a_finger_and_a_pen_draw(page: Chrome) -> None:
    left, top = page.execute_script(
        "const f = document.getElementById('sheet').getBoundingClientRect(); return [f.left, f.top]"
    )
    for number, y in enumerate([40, 80, 120, 160, 200]):
        kind = "touchMove" if number else "touchStart"
        page.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": left + 150, "y": top + y}]}
        )
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settled(page)
    assert len(strokes(page)) == 1
    assert len(strokes(page)[0]) >= 4
    assert page.execute_script("return window.scrollY") == 0
    draw(page, [[(0.3, 0.2), (0.3, 0.8)]], pointerType="pen", force=0.1)
    draw(page, [[(0.7, 0.2), (0.7, 0.8)]], pointerType="pen", force=0.9)
    widths = [line[1][2] for line in strokes(page)]
    assert widths[1] < widths[0] < widths[2]  # a finger has no reliable pressure
    np.testing.assert_array_equal(seen(page), digits.from_strokes(strokes(page)))


def test_undo_and_clear_take_strokes_away(page: Chrome) -> None:
    buttons = [page.find_element("id", name) for name in ("undo", "clear")]
    assert not any(button.is_enabled() for button in buttons)
    draw(page, [[(0.4, 0.2), (0.4, 0.7)], [(0.6, 0.2), (0.6, 0.7)]])
    two = seen(page)
    draw(page, [[(0.2, 0.5), (0.8, 0.5)]])
    assert (seen(page) != two).any()
    buttons[0].click()
    settled(page)
    np.testing.assert_array_equal(seen(page), two)
    buttons[1].click()
    settled(page)
    assert strokes(page) == []
    assert text(page, "guess-name") == "?"
    assert not any(button.is_enabled() for button in buttons)


def test_keys_alone_draw_undo_and_clear_and_the_result_is_announced(page: Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "sheet"
    press(page, *[Keys.ARROW_UP] * 8, Keys.SPACE, *[Keys.ARROW_DOWN] * 16, Keys.SPACE)
    assert len(strokes(page)) == 1
    assert len(strokes(page)[0]) == 17
    assert announced(page).startswith(f"{probabilities(page).argmax()}, {100 * probabilities(page).max():.1f} %; next ")
    press(page, Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_RIGHT)
    assert len(strokes(page)) == 2
    press(page, Keys.BACKSPACE)
    assert len(strokes(page)) == 1
    press(page, Keys.DELETE)
    assert strokes(page) == []
    assert announced(page) == "empty"


def test_everything_is_reached_with_the_tab_key(page: Chrome) -> None:
    """In a sensible order, each with a name."""
    from selenium.webdriver.common.keys import Keys

    draw(page, [[(0.5, 0.2), (0.5, 0.8)]])
    reached = []
    for _ in range(26):
        press(page, Keys.TAB)
        focused = page.switch_to.active_element
        assert focused.accessible_name, focused.get_attribute("outerHTML")
        reached.append(focused.get_attribute("id") or focused.get_attribute("class") or focused.accessible_name)
    assert reached[:13] == ["undo", "clear", "classes-frame", *map(str, range(10))]
    assert reached[13] == "field"
    assert len(set(reached[14:20])) == 6  # the strongest connections
    assert reached[20].startswith("is ")


def test_a_unit_is_shown_with_its_numbers(page: Chrome, digit_model: Path) -> None:
    """The weights, the sum, the activation and the connections onward are the model's."""
    from selenium.webdriver.common.keys import Keys

    draw(page, own_digits()[3])
    first, bias, second, _ = gpunet.load(digit_model, device="cpu").get_weights()
    field = page.find_element("class name", "field")
    columns, rows = 12, 9  # of 100 units
    for unit in (38, 39):
        if unit == 38:
            place = field.rect
            spot = {
                "x": place["x"] + place["width"] * (unit % columns + 0.5) / columns,
                "y": place["y"] + place["height"] * (unit // columns + 0.5) / rows,
            }
            page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", **spot})
            settled(page)
        else:
            page.execute_script("arguments[0].focus()", field)
            press(page, Keys.ARROW_RIGHT)
        total = float(seen(page).ravel() / 255 @ first[:, unit].astype(float) + bias[unit])
        assert text(page, "unit-heading") == f"Hidden layer 1, unit {unit + 1}"
        shown = [part.text.replace("\u2212", "-") for part in page.find_elements("css selector", "#unit-numbers dd")]
        assert [float(number) for number in shown] == pytest.approx(
            [total - bias[unit], bias[unit], total, max(0, total)], abs=0.02
        )
        strongest = np.argsort(-np.abs(second[unit]))[:6]
        listed = [
            part.text.replace("\u2212", "-").split() for part in page.find_elements("css selector", "#onward button")
        ]
        assert [int(words[1]) for words in listed] == list(strongest)
        assert [float(words[2]) for words in listed] == pytest.approx(second[unit][strongest], abs=0.002)
    assert f"unit 40 of 100, output {shown[3]}" == field.get_attribute("aria-valuetext").replace("\u2212", "-")


def test_a_test_image_is_shown_with_its_truth(page: Chrome) -> None:
    draw(page, [[(0.5, 0.2), (0.5, 0.8)]])
    drawn = seen(page)
    button = page.find_element("css selector", "#strip button")
    button.click()
    settled(page)
    truth, guess = (page.execute_script(f"return thinking.state.examples[0].{name}") for name in ("truth", "guess"))
    assert text(page, "guess-name") == str(guess)
    assert text(page, "guess-share").endswith(f", wrong: it is {truth}")
    assert button.get_attribute("aria-pressed") == "true"
    assert f", wrong: it is {truth}; next " in announced(page)
    page.find_element("id", "undo").click()
    settled(page)
    np.testing.assert_array_equal(seen(page), drawn)  # back to the drawing


@pytest.mark.parametrize("name", ["16", "hostile"])
def test_nothing_overlaps_in_a_window_of_any_width(browser: Chrome, pages: Path, name: str) -> None:
    for page in opened(browser, pages / f"{name}.html"):
        page.execute_script("thinking.sheet.begin([0.2, 0.2, 0.07]); thinking.sheet.extend([0.7, 0.7, 0.07])")
        for width in (320, 360, 520, 699, 700, 768, 1024, 1339, 1340, 1600):
            page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen(width, 800))
            settled(page)
            assert page.execute_script(LAYOUT_FAULTS) == [], width


def test_light_and_dark_have_enough_contrast(page: Chrome) -> None:
    """4.5 to 1 for every text on its background, as WCAG 2 demands for small letters."""
    for mode in ("light", "dark"):
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
        )
        settled(page)
        names = ("ground", "card", "ink", "muted", "up", "down")
        style = "return getComputedStyle(document.documentElement).getPropertyValue('--' + arguments[0])"
        lights = {name: luminance([int(x) for x in page.execute_script(style, name).split()]) for name in names}
        assert (lights["ground"] > lights["ink"]) == (mode == "light")
        for letters in ("ink", "muted", "up", "down"):
            for ground in ("ground", "card"):
                low, high = sorted((lights[letters], lights[ground]))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (mode, letters, ground)


def luminance(colour: list[int]) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [x / 255 / 12.92 if x / 255 <= 0.04045 else ((x / 255 + 0.055) / 1.055) ** 2.4 for x in colour]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


def test_hostile_names_are_text(browser: Chrome, pages: Path) -> None:
    for page in opened(browser, pages / "hostile.html"):
        assert page.execute_script("return window.hacked") is None
        assert [row.text for row in page.find_elements("css selector", "#classes tbody th")][2] == HOSTILE[2]
        shown = page.execute_script(
            "return Array.from(document.querySelectorAll('#classes tbody th'), (head) => head.textContent)"
        )
        assert shown == HOSTILE
        assert page.execute_script("return document.querySelectorAll('script, img, b').length") == 3
        assert "onerror=window.hacked=1" in text(page, "subtitle")
        assert "<b>$style.npz" in text(page, "facts")


def test_test_images_come_first_if_they_are_not_digits(browser: Chrome, pages: Path) -> None:
    for page in opened(browser, pages / "hostile.html"):
        tops = {name: page.find_element("id", name).rect["y"] for name in ("examples", "drawing", "network")}
        assert tops["examples"] < min(tops["drawing"], tops["network"])
        assert text(page, "title") == "See the network think"
    for page in opened(browser, pages / "16.html"):
        assert page.find_element("id", "examples").rect["y"] > page.find_element("id", "drawing").rect["y"]
        assert text(page, "title") == page.title == "Draw a digit, see the network think"


def test_the_policy_stops_scripts_and_connections(browser: Chrome, pages: Path) -> None:
    browser.get((pages / "16.html").as_uri())
    stopped = browser.execute_async_script(
        "const done = arguments[0], stopped = [];"
        "document.addEventListener('securitypolicyviolation', (event) => {"
        "  stopped.push(event.effectiveDirective); if (stopped.length === 2) done(stopped.sort()); });"
        "try { document.body.innerHTML = '<b>'; } catch {}"
        "fetch('https://example.invalid/').catch(() => {});"
    )
    assert stopped == ["connect-src", "require-trusted-types-for"]
    assert browser.execute_script("return document.body.children.length") > 3
    for kind in ("browser", "performance"):
        browser.get_log(kind)


def test_the_benchmark_measures_image_network_and_both(capsys: pytest.CaptureFixture[str]) -> None:
    """What it says about the limit of 5 ms agrees with what it prints; how long it takes is not tested."""
    status = page_speed.main(["--runs", "1"])
    head, *lines, verdict = capsys.readouterr().out.splitlines()
    assert head.startswith("784-500-500-10, Chromium ")
    times = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert list(times) == ["image", "network", "both"]
    assert min(times.values()) > 0
    assert verdict == f"a whole prediction takes {'MORE' if status else 'less'} than 5 ms"
    assert (times["both"] >= 5) == bool(status) or times["both"] == 5.0


def test_the_screenshot_of_the_guide(browser: Chrome, pages: Path, mnist: gpunet.Dataset, tmp_path: Path) -> None:
    """A picture of the page with something on it. If it is to be kept, it is of the lecture's network."""
    path, file = os.environ.get("GPUNET_SCREENSHOT"), pages / "16.html"
    if path:
        model = gpunet.Sequential([gpunet.Dense(500, "sigmoid", input_dim=784), gpunet.Dense(500, "sigmoid")], seed=0)
        model.add(gpunet.Dense(10, "softmax"))
        model.compile(gpunet.Adam(0.002), "sparse_categorical_crossentropy", device="cpu")
        model.fit(*mnist.train, batch_size=100, epochs=5, verbose=0)
        model.save(tmp_path / "model.safetensors")
        file = tmp_path / "digits.html"
        assert command.main([str(tmp_path / "model.safetensors"), "-o", str(file), "--device", "cpu"]) == 0
    for page in opened(browser, file):
        draw(page, own_digits(points=40)[3])
        content = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        image = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
    assert image.size[0] == 1600
    lit = np.abs(np.asarray(image, int) - [201, 56, 6]).sum(axis=2) < 30
    assert lit.sum() > 5000  # cells of units, and the bar of the class
    if path:
        image.crop((0, 0, 1600, 1085)).save(path, optimize=True)

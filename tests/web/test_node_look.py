"""What all nodes have in common in the real frontend: folded and greyed inputs, colours of sockets, sizes."""

from __future__ import annotations

import pytest

from tests.web.panels import PANEL, PLOT, one_node, panel, wait_text

pytestmark = pytest.mark.browser
CANVAS = pytest.mark.parametrize("editor", ["canvas"], indirect=True)
# Names of the widgets that the canvas gives a row.
ROWS = """(id) => {
    const node = app.graph.getNodeById(id);
    return node.getLayoutWidgets().filter((w) => node.isWidgetVisible(w)).map((w) => w.name);
}"""
MORE = "app.graph.getNodeById(id).widgets.find((w) => w.name === 'more_settings')"
SIZES = """(id) => {
    const node = app.graph.getNodeById(id);
    return { node: [...node.size], needed: node.computeSize()[1] };
}"""


def press_more(editor, node: int) -> None:
    editor.evaluate(f"(id) => {MORE}.callback()", node)


def label_of_more(editor, node: int) -> str:
    return editor.evaluate(f"(id) => {MORE}.label", node)


def declared(editor, node: int, *, advanced: bool) -> list[str]:
    """The inputs of a node that have a widget, without or with the advanced ones alone."""
    return editor.evaluate(
        """([id, advanced]) => {
            const node = app.graph.getNodeById(id), { required = {}, optional = {} } = node.constructor.nodeData.input;
            const every = Object.entries({ ...required, ...optional });
            const named = every.filter(([, [, options]]) => Boolean(options?.advanced) === advanced);
            return named.map(([name]) => name).filter((name) => node.widgets.some((w) => w.name === name));
        }""",
        [node, advanced],
    )


def settled_sizes(editor, node: int) -> dict:
    """The sizes once panels have shown what the server answers, which may make them higher."""
    if editor.evaluate("(id) => app.graph.getNodeById(id).type", node) == "DDIMSchedule":
        wait_text(editor, node, PLOT, "20 steps")
    before, now = None, editor.evaluate(SIZES, node)
    while before != now:
        editor.page.wait_for_timeout(300)
        before, now = now, editor.evaluate(SIZES, node)
    return now


@CANVAS
@pytest.mark.parametrize("kind", ["DDIMSchedule", "DDIMSample", "DDIMInvert"])
def test_the_canvas_folds_advanced_inputs_and_shows_them_on_demand(editor, kind):
    node = one_node(editor, kind)
    basic, advanced = (declared(editor, node, advanced=each) for each in (False, True))
    assert advanced
    shown = editor.evaluate(ROWS, node)
    assert set(basic) <= set(shown) and not set(advanced) & set(shown)
    ghosts = """([id, names]) => {
        const node = app.graph.getNodeById(id);
        const slots = node.inputs.map((input, i) => [input.name, node.getInputPos(i)]);
        return slots.filter(([name, [, y]]) => names.includes(name) && y > node.pos[1] - 1000).map(([name]) => name);
    }"""
    editor.wait(f"(given) => ({ghosts})(given).length === 0", [node, advanced])  # sockets shown when a link is dragged
    folded = settled_sizes(editor, node)
    assert folded["node"][1] == pytest.approx(folded["needed"], abs=2), "blank rows are left"
    press_more(editor, node)
    assert set(basic + advanced) <= set(editor.evaluate(ROWS, node))
    editor.wait(f"(given) => ({ghosts})(given).length === given[1].length", [node, advanced])
    unfolded = editor.evaluate(SIZES, node)
    assert unfolded["node"][1] > folded["node"][1] + 15 * len(advanced)
    press_more(editor, node)
    assert editor.evaluate(ROWS, node) == shown
    assert editor.evaluate(SIZES, node)["node"] == pytest.approx(folded["node"], abs=2)


@CANVAS
def test_folding_keeps_the_height_that_a_user_gave(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    editor.evaluate("(id) => { const node = app.graph.getNodeById(id); node.setSize([500, node.size[1] + 90]); }", node)
    before = editor.evaluate(SIZES, node)["node"]
    for _ in range(2):
        press_more(editor, node)
    assert editor.evaluate(SIZES, node)["node"] == pytest.approx(before, abs=2)


@CANVAS
def test_folded_inputs_are_saved_and_queued_where_they_were(editor):
    node = one_node(editor, "DDIMSchedule")
    editor.set_widget(node, "beta_end", 0.013)
    saves = "(id) => app.graph.getNodeById(id).serialize()"
    prompts = "app.graphToPrompt().then((p) => Object.values(p.output)[0].inputs)"
    folded, queued = editor.evaluate(saves, node), editor.evaluate(prompts)
    names = declared(editor, node, advanced=False) + declared(editor, node, advanced=True)
    assert len(folded["widgets_values"]) == len(names) and 0.013 in folded["widgets_values"]
    assert set(names) <= set(queued) and "more_settings" not in queued
    press_more(editor, node)
    unfolded = editor.evaluate(saves, node)
    assert unfolded["widgets_values"] == folded["widgets_values"]
    assert editor.evaluate(prompts) == queued
    assert unfolded["showAdvanced"] is True and not folded.get("showAdvanced")


@CANVAS
def test_whether_a_node_is_folded_is_saved(editor):
    node = one_node(editor, "DDIMInvert")
    press_more(editor, node)
    saved, height = editor.evaluate("app.graph.serialize()"), editor.evaluate(SIZES, node)["node"][1]
    one_node(editor, "DDIMSchedule")
    editor.load(saved)
    editor.wait(f"([id, name]) => ({ROWS})(id).includes(name)", [node, "noise_path"])
    assert editor.evaluate(SIZES, node)["node"][1] == pytest.approx(height, abs=2)


@CANVAS
def test_what_a_folded_input_holds_is_told(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    assert label_of_more(editor, node) == "▸ More settings"
    editor.set_widget(node, "beta_end", 0.013)
    editor.set_widget(node, "set_alpha_to_one", False)
    editor.wait(f"(id) => {MORE}.label.endsWith('● 2 changed')", node)
    editor.evaluate(
        """(id) => {
            const node = app.graph.getNodeById(id), source = LiteGraph.createNode("PrimitiveNode");
            app.graph.add(source);
            source.connect(0, node, node.inputs.findIndex((input) => input.name === "end_step"));
        }""",
        node,
    )
    editor.wait("(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'end_step').visibility.surfaces"
                ".canvas === 'shown'", node)  # fmt: skip
    assert "start_step" not in editor.evaluate(ROWS, node)


@CANVAS
def test_the_editors_setting_shows_all_inputs(editor):
    node = one_node(editor, "DDIMSchedule")
    name = "Comfy.Node.AlwaysShowAdvancedWidgets"
    try:
        editor.set_setting(name, True)
        editor.wait(f"(id) => ({ROWS})(id).includes('parity')", node)
        assert "more_settings" not in editor.evaluate(ROWS, node)
    finally:
        editor.set_setting(name, False)
    editor.wait(f"(id) => !({ROWS})(id).includes('parity')", node)


@pytest.mark.parametrize("editor", ["vue"], indirect=True)
def test_nodes_2_fold_by_themselves(editor):
    node = one_node(editor, "DDIMSchedule")
    frame = editor.page.locator(f'[data-node-id="{node}"]')
    assert frame.get_by_text("More settings").count() == 0
    assert frame.get_by_text("beta end").count() == 0
    frame.get_by_text("Show advanced inputs").click()
    frame.get_by_text("beta end").wait_for()


def test_sockets_and_wires_have_colours_of_their_own(editor):
    colours = "(types) => types.map((type) => app.canvas.default_connection_color_byType[type])"
    types = ["DDIM_SCHEDULE", "VARIANCE_NOISE", "DDIM_STEPS"]
    known = [*types, "MODEL", "LATENT", "CONDITIONING", "SIGMAS", "IMAGE"]
    links = "(types) => types.map((type) => app.canvas.constructor.link_type_colors[type])"
    styles = (
        "(types) => types.map((type) => getComputedStyle(document.documentElement)"
        ".getPropertyValue(`--color-datatype-${type}`).trim())"
    )
    try:
        for palette in ("dark", "light"):
            editor.set_setting("Comfy.ColorPalette", palette)
            for told in (colours, links, styles):
                given = editor.evaluate(told, known)
                assert all(given[:3]) and len({each.lower() for each in given}) == len(known), (palette, given)
    finally:
        editor.set_setting("Comfy.ColorPalette", "dark")


GREYED = "(id) => app.graph.getNodeById(id).widgets.filter((w) => w.disabled).map((w) => w.name).sort()"
LINK = """([id, kind, output, input]) => {
    const source = LiteGraph.createNode(kind);
    source.pos = [60, 80];
    app.graph.add(source);
    source.connect(source.outputs.findIndex((each) => each.type === output), app.graph.getNodeById(id), input);
}"""


def wait_greyed(editor, node: int, *names: str) -> None:
    editor.wait(f"([id, names]) => String(({GREYED})(id)) === names", [node, ",".join(sorted(names))])


def test_inputs_without_effect_are_greyed_and_say_why(editor):
    node = one_node(editor, "DDIMInvert")
    tip = "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name).tooltip"
    wait_greyed(editor, node, "refinements")
    assert "is: fixed_point." in editor.evaluate(tip, [node, "refinements"])
    editor.set_widget(node, "method", "fixed_point")
    wait_greyed(editor, node, "eta", "seed", "noise_path", "noise_precision")
    assert not editor.evaluate(tip, [node, "refinements"])
    editor.evaluate(LINK, [node, "DDIMSchedule", "DDIM_SCHEDULE", "schedule"])
    wait_greyed(editor, node, "eta", "seed", "noise_path", "noise_precision", "steps", "timestep_spacing")
    assert editor.evaluate(tip, [node, "steps"]).startswith("Not used while ")


def test_a_model_greys_the_betas_of_a_schedule(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_greyed(editor, node)
    editor.evaluate(LINK, [node, "DDIMDemoModel", "MODEL", "model"])
    wait_greyed(editor, node, "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
    editor.evaluate("(id) => app.graph.getNodeById(id).disconnectInput('model')", node)
    wait_greyed(editor, node)


def test_selecting_a_node_with_the_properties_open_leaves_its_plot_alone(editor):
    """The properties panel would take the plot's element, and narrow its widget for good."""
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    measure = """([id, name]) => {
        const node = app.graph.getNodeById(id), widget = node.widgets.find((w) => w.name === name);
        return [widget.width ?? null, Math.round(widget.element.clientWidth), Math.round(node.size[0])];
    }"""
    before = editor.evaluate(measure, [node, PLOT])
    opened = "document.querySelector('[data-testid=properties-panel]')"
    toggle = editor.page.get_by_role("button", name="Toggle properties panel")
    try:
        if not editor.evaluate(f"!!{opened}"):
            toggle.click()
        editor.wait(opened)
        editor.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", node)
        listed = editor.page.get_by_test_id("properties-panel")
        listed.get_by_text("steps", exact=True).first.wait_for()
        editor.page.wait_for_timeout(500)
        assert listed.get_by_text("ddim_schedule_plot").count() == 0
        assert editor.evaluate(measure, [node, PLOT]) == before
    finally:
        editor.evaluate("app.canvas.deselectAllNodes?.()")
        if editor.evaluate(f"!!{opened}"):
            toggle.click()
    editor.page.wait_for_timeout(300)
    assert editor.evaluate(measure, [node, PLOT]) == before


def test_a_plot_never_becomes_taller_than_four_to_three(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    editor.evaluate("(id) => app.graph.getNodeById(id).setSize([360, 1100])", node)
    editor.page.wait_for_timeout(600)
    box = panel(editor, "plot").locator(".ddim-figure").bounding_box()
    assert 140 < box["height"] <= 0.76 * box["width"]


NODES = ["DDIMDemoModel", "DDIMModelSampling", "DDIMDemoEncode", "DDIMSampler", "DDIMScheduleFromConfig"]


@CANVAS
@pytest.mark.parametrize("kind", NODES)
def test_titles_are_not_cut(editor, kind):
    shown = editor.evaluate(
        """async (kind) => {
            app.graph.clear();
            const node = LiteGraph.createNode(kind), drawn = [];
            node.pos = [300, 200];
            app.graph.add(node);
            const context = app.canvas.canvas.getContext("2d"), write = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
                drawn.push(text);
                return write.call(this, text, ...rest);
            };
            app.canvas.setDirty(true, true);
            app.canvas.draw(true, true);
            CanvasRenderingContext2D.prototype.fillText = write;
            return [node.title, drawn];
        }""",
        kind,
    )
    assert shown[0] in shown[1], shown


@pytest.mark.parametrize(
    "kind", ["DDIMInvert", "DDIMCheckModel", "DDIMSampler", "DDIMSample", "DDIMScheduleFromConfig"]
)
def test_the_text_of_a_new_node_is_not_cut(editor, kind):
    node = one_node(editor, kind)
    name = editor.evaluate(
        "(id) => app.graph.getNodeById(id).widgets.find((w) => w.element && w.serialize === false).name", node
    )
    cut = f"""([id, name]) => {{
        const element = ({PANEL})([id, name]);
        return element.clientHeight > 0 && element.scrollHeight <= element.clientHeight + 1;
    }}"""
    editor.wait(cut, [node, name])


def test_a_panel_that_only_tells_something_does_not_stretch_with_its_node(editor):
    node = one_node(editor, "DDIMInvert")
    box = "document.querySelector('.ddim-inversion').getBoundingClientRect().height"
    editor.wait(f"{box} > 20")
    editor.evaluate(
        "(id) => { const node = app.graph.getNodeById(id); node.setSize([420, node.size[1] + 400]); }", node
    )
    editor.page.wait_for_timeout(500)
    assert editor.evaluate(box) < 90

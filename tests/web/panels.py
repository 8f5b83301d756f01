"""What the panels' tests share: finding a panel and what it says."""

from __future__ import annotations

PLOT, REPLAY, INVERSION = "ddim_schedule_plot", "ddim_step_replay", "ddim_inversion_report"
# What a node's panel says, wherever the renderer has put its element.
PANEL = "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name).element"


def text(editor, node: int, name: str, part: str = "") -> str:
    """The text of a panel, or of a part of it."""
    return editor.evaluate(
        f"""([id, name, part]) => {{
            const element = ({PANEL})([id, name]);
            return (part ? element.querySelector(part) : element).textContent;
        }}""",
        [node, name, part],
    )


def wait_text(editor, node: int, name: str, expected: str) -> None:
    editor.wait(f"([id, name, text]) => ({PANEL})([id, name])?.textContent.includes(text)", [node, name, expected])


def panel(editor, kind: str):
    """A panel on the screen, as Playwright sees it."""
    return editor.page.locator(f".ddim-{kind}:visible").first


def one_node(editor, kind: str) -> int:
    """A graph of one node in the middle of the screen; its id."""
    node = editor.evaluate(
        """(kind) => {
            app.graph.clear();
            const node = LiteGraph.createNode(kind);
            node.pos = [500, 80];
            app.graph.add(node);
            [app.canvas.ds.scale, app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = [1, 0, 60];
            app.canvas.setDirty(true, true);
            return Number(node.id);
        }""",
        kind,
    )
    editor.wait("(id) => app.graph.getNodeById(id).widgets.some((w) => w.element?.isConnected)", node)
    return node


def drop_on_node(editor, node: int, name: str, content: str) -> bool:
    """Drops a file on a node, through the node's own handlers."""
    return editor.evaluate(
        """async ([id, name, content]) => {
            const node = app.graph.getNodeById(id), given = new DataTransfer();
            given.items.add(new File([content], name, { type: "application/json" }));
            const event = new DragEvent("drop", { dataTransfer: given });
            return node.onDragOver(event) && (await node.onDragDrop(event));
        }""",
        [node, name, content],
    )

"""Executes the cells of a notebook, one after the other, in a kernel that is already starting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbclient.util import ensure_async
from nbformat import NotebookNode

from .progress import Reporter

STARTUP_TIMEOUT_S = 300
IOPUB_TIMEOUT_S = 120
MAX_STREAM_CHARS = 8 * 1024**2
EXIT_SOURCE = "__import__('IPython').get_ipython().ask_exit()"


class StreamText:
    """The text of one stream output: appended to cheaply, bounded, progress bars reduced to their last state.

    Beyond ``MAX_STREAM_CHARS`` the first and the last half stay, with a line that says how much lies between.
    """

    def __init__(self, node: NotebookNode, *, limit_chars: int = MAX_STREAM_CHARS) -> None:
        self.node = node
        self._half = limit_chars // 2
        self._head = ""
        self._parts: list[str] = []
        self._pending_chars = 0
        self._left_out = 0

    def append(self, text: str) -> None:
        self._parts.append(text)
        self._pending_chars += len(text)
        if self._pending_chars > self._half:
            self._compact()

    def settle(self) -> None:
        """Bring the notebook's output up to date."""
        self._compact()
        gap = f"\n… {self._left_out} characters are left out here; the log holds this output …\n"
        self.node["text"] = self._head + (gap if self._left_out else "") + "".join(self._parts)

    def _compact(self) -> None:
        text = "".join(self._parts)
        if "\r" in text:
            *lines, last = text.split("\n")
            text = "\n".join([*(_last_state(line.rstrip("\r")) for line in lines), _last_state(last)])
        if not self._head and len(text) > self._half:
            self._head, text = text[: self._half], text[self._half :]
        tail = text[-self._half :]
        self._left_out += len(text) - len(tail)
        self._parts, self._pending_chars = [tail], 0


def _last_state(line: str) -> str:
    """What a terminal would show of a line; a return at its end stays, for the text that follows."""
    shown = line.rstrip("\r")
    return shown.rpartition("\r")[2] + line[len(shown) :][:1]


class JobClient(NotebookClient):
    """nbclient, with its output passed on to the log as it comes.

    Two things differ from nbclient: consecutive texts of a stream are one output, as JupyterLab saves them, and output
    that a thread of an earlier cell still writes goes to that cell instead of nowhere.

    Attributes:
        current_cell: 1-based number among code cells of the cell that runs or ran last; 0 before the first.
        of: How many code cells there are.
    """

    def __init__(
        self, notebook: NotebookNode, reporter: Reporter, *, on_cell_end: Callable[[], None], **options: Any
    ) -> None:
        allow_errors = notebook.metadata.get("allow_errors") is True
        super().__init__(
            notebook,
            timeout=None,
            startup_timeout=STARTUP_TIMEOUT_S,
            iopub_timeout=IOPUB_TIMEOUT_S,
            allow_errors=allow_errors,
            **options,
        )
        self.current_cell = 0
        code_cells = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self.of = len(code_cells)
        self._numbers = {index: number for number, index in enumerate(code_cells, start=1)}
        self._reporter = reporter
        self._on_cell_end = on_cell_end
        self._owners: dict[str, tuple[NotebookNode, int]] = {}
        self._stream: StreamText | None = None
        self._stopping = False
        self._is_ipython = False

    async def connect(self) -> None:
        """Wait for the kernel to answer, and note its language in the notebook.

        Raises:
            RuntimeError: it died or did not answer in time.
        """
        await self.async_start_new_kernel_client()
        message_id = await ensure_async(self.kc.kernel_info())  # type: ignore[union-attr]
        reply = await self.async_wait_for_reply(message_id)
        if reply is not None and "language_info" in reply["content"]:
            self.nb.metadata["language_info"] = reply["content"]["language_info"]
            self._is_ipython = reply["content"].get("implementation") == "ipython"

    async def run_cells(self) -> None:
        """Execute all cells in order.

        Raises:
            CellExecutionError: a cell failed.
            DeadKernelError: the kernel is gone.
        """
        for index, cell in enumerate(self.nb.cells):
            if self._stopping:
                return
            if index in self._numbers:
                self.current_cell = self._numbers[index]
                self._reporter.progress(self.current_cell, self.of)
            try:
                await self.async_execute_cell(cell, index, execution_count=self.code_cells_executed + 1)
            finally:
                self.settle()
                self._reporter.flush()
            self._on_cell_end()

    async def ask_to_exit(self) -> bool:
        """Let an idle kernel end as if the user had typed ``exit``; False where it does not know how.

        Asked to shut down on its control channel, ipykernel 7 now and then waits 10 s for a thread that has ended.
        """
        if self._is_ipython:
            await ensure_async(self.kc.execute(EXIT_SOURCE, silent=True, allow_stdin=False))  # type: ignore[union-attr]
        return self._is_ipython

    def stop_after_cell(self) -> None:
        """Begin no further cell."""
        self._stopping = True

    def settle(self) -> None:
        """Bring the notebook's outputs and widget state up to date with what has come so far."""
        if self._stream is not None:
            self._stream.settle()
        self.set_widgets_metadata()

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: NotebookNode, cell_index: int) -> None:
        self._owners[parent_msg_id] = (cell, cell_index)
        while True:
            message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=None))  # type: ignore[union-attr]
            parent = message["parent_header"].get("msg_id")
            if parent not in self._owners:
                continue
            try:
                self.process_message(message, *self._owners[parent])
            except CellExecutionComplete:
                if parent == parent_msg_id:
                    return

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """As nbclient does it, and write what is text to the log."""
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self._reporter.text(str(content.get("name")), str(content.get("text")))
        elif msg["msg_type"] == "error":
            traceback = content.get("traceback") or [f"{content.get('ename')}: {content.get('evalue')}"]
            self._reporter.text("stderr", "\n".join(map(str, traceback)) + "\n")
        return super().process_message(msg, cell, cell_index)

    def output(
        self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        """Append to the stream output that was last, where it is the same stream; else as nbclient does."""
        name = msg["content"].get("name") if msg["msg_type"] == "stream" else None
        stream, last = self._stream, outs[-1] if outs else None
        captured = self.output_hook_stack[msg["parent_header"].get("msg_id")]
        continues = stream is not None and stream.node is last and stream.node["name"] == name
        if stream and continues and not captured and not self.clear_before_next_output:
            stream.append(msg["content"]["text"])
            return stream.node
        if stream:
            stream.settle()
        out = super().output(outs, msg, display_id, cell_index)
        if out is not None and name is not None:
            self._stream = StreamText(out)
            self._stream.append(out["text"])
        return out

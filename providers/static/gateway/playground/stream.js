// An event stream, read as its bytes come: pieces may end anywhere, in the middle of a line or of a character.

const LONGEST_LINE = 8 * 1024 * 1024;

/** The data of each event, in order. Ends with the stream; raises what reading raises. */
export async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const lines = new Lines();
  const event = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      for (const line of lines.take(done ? decoder.decode() : decoder.decode(value, { stream: true }), done)) {
        if (line === "") {
          if (event.length) yield event.splice(0).join("\n");
        } else if (line.startsWith("data:")) {
          event.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (done) break;
    }
    if (event.length) yield event.join("\n");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Whole lines out of pieces of text; CR, LF and CRLF end one, also where a CRLF is torn apart. */
class Lines {
  #rest = "";
  #endedByReturn = false;

  *take(piece, last) {
    let text = this.#endedByReturn && piece.startsWith("\n") ? piece.slice(1) : piece;
    if (piece) this.#endedByReturn = piece.endsWith("\r");
    text = this.#rest + text;
    const lines = text.split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    if (this.#rest.length > LONGEST_LINE) throw new Error("A line of the answer is too long.");
    yield* lines;
    if (last && this.#rest) {
      yield this.#rest;
      this.#rest = "";
    }
  }
}

/** An answer, put together from the chunks of a stream or taken from a whole body. */
export class Answer {
  text = "";
  reasoning = "";
  calls = [];
  finish = "";
  usage = null;
  error = null;
  ended = false;

  /** Takes the data of one event; true when there is something new to show. */
  hear(data) {
    if (data === "[DONE]") {
      this.ended = true;
      return false;
    }
    const told = parsed(data);
    if (told === null) return false;
    if (told.error) {
      this.error = told.error;
      return true;
    }
    if (told.usage) this.usage = told.usage;
    return (told.choices ?? [])
      .filter((choice) => !choice.index)
      .map((choice) => this.#take(choice.delta ?? {}, choice))
      .some(Boolean);
  }

  whole(body) {
    const choice = body.choices?.[0] ?? {};
    this.usage = body.usage ?? null;
    this.ended = true;
    this.#take(choice.message ?? {}, choice);
  }

  get begun() {
    return Boolean(this.text || this.reasoning || this.calls.length);
  }

  #take(said, choice) {
    if (typeof said.content === "string") this.text += said.content;
    const thought = said.reasoning_content ?? said.reasoning;
    if (typeof thought === "string") this.reasoning += thought;
    for (const [place, call] of (said.tool_calls ?? []).entries()) {
      const known = (this.calls[call.index ?? place] ??= { name: "", arguments: "" });
      known.name += call.function?.name ?? "";
      known.arguments += call.function?.arguments ?? "";
    }
    if (choice.finish_reason) this.finish = choice.finish_reason;
    return true;
  }
}

function parsed(data) {
  try {
    const told = JSON.parse(data);
    return told && typeof told === "object" ? told : null;
  } catch {
    return null;
  }
}

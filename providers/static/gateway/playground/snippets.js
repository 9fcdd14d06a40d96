// A request as code that asks the same with a key of one's own, which is named and never shown.

const KNOWN = new Set(
  (
    "model messages temperature top_p max_tokens max_completion_tokens seed stop stream stream_options response_format tools tool_choice n " +
    "logprobs top_logprobs presence_penalty frequency_penalty user metadata reasoning_effort parallel_tool_calls"
  ).split(" "),
);

export function curl(api, body) {
  return [
    `curl -N ${quoted(`${api}/chat/completions`)} \\`,
    '  -H "Authorization: Bearer $GATEWAY_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join("\n");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function python(api, body) {
  const { known, other } = parted(body);
  const arguments_ = Object.entries(known).map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  if (Object.keys(other).length) arguments_.push(`    extra_body=${literal(other, 1)},`);
  const read = body.stream
    ? ["for chunk in answer:", "    if chunk.choices:", '        print(chunk.choices[0].delta.content or "", end="", flush=True)']
    : ["print(answer.choices[0].message.content)"];
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(api)}, api_key=os.environ["GATEWAY_API_KEY"])`,
    "answer = client.chat.completions.create(",
    ...arguments_,
    ")",
    ...read,
  ].join("\n");
}

export function javascript(api, body) {
  const read = body.stream
    ? ["for await (const chunk of answer) {", '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");', "}"]
    : ["console.log(answer.choices[0].message.content);"];
  return [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: ${JSON.stringify(api)}, apiKey: process.env.GATEWAY_API_KEY });`,
    `const answer = await client.chat.completions.create(${JSON.stringify(body, null, 2)});`,
    ...read,
  ].join("\n");
}

/** What the SDK takes by name, and what it hands on. */
function parted(body) {
  const known = {};
  const other = {};
  for (const [name, value] of Object.entries(body)) (KNOWN.has(name) ? known : other)[name] = value;
  return { known, other };
}

/** A JSON value as Python writes it. */
function literal(value, depth) {
  const margin = "    ".repeat(depth);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value))
    return value.length ? `[\n${value.map((one) => `${margin}    ${literal(one, depth + 1)},`).join("\n")}\n${margin}]` : "[]";
  if (typeof value === "object") {
    const members = Object.entries(value).map(([name, one]) => `${margin}    ${JSON.stringify(name)}: ${literal(one, depth + 1)},`);
    return members.length ? `{\n${members.join("\n")}\n${margin}}` : "{}";
  }
  return JSON.stringify(value);
}

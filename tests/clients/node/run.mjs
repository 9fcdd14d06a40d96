// The same for JavaScript's clients: JSON in on stdin, JSON out. See ../python/run.py.
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { z } from "zod";

const hello = [{ role: "user", content: "Hello there, how are you?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

async function all(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

const openai = (to) => new OpenAI({ baseURL: to.openai_url, apiKey: to.openai_key, maxRetries: 0 });
const anthropic = (to) => new Anthropic({ baseURL: to.anthropic_url, apiKey: to.anthropic_key, maxRetries: 0 });
const ollama = (to) => new Ollama({ host: to.ollama_url, headers: { Authorization: `Bearer ${to.ollama_key}` } });
const vercel = (to) => createOpenAICompatible({ name: "gateway", baseURL: to.openai_url, apiKey: to.openai_key, includeUsage: true, supportsStructuredOutputs: true });

const clients = {
  openai_node: {
    chat: (to) => openai(to).chat.completions.create({ model: to.chat, messages: hello }),
    stream: async (to) => all(await openai(to).chat.completions.create({ model: to.chat, messages: hello, stream: true })),
    tools: (to) =>
      openai(to).chat.completions.create({
        model: to.chat,
        messages: hello,
        tools: [{ type: "function", function: { name: "weather", parameters } }],
      }),
    embeddings: (to) => openai(to).embeddings.create({ model: to.embedding, input: ["one", "two"] }),
    wrong_key: async (to) => {
      const asked = new OpenAI({ baseURL: to.openai_url, apiKey: "sk-wrong", maxRetries: 0 });
      try {
        await asked.chat.completions.create({ model: to.chat, messages: hello });
      } catch (error) {
        return [error.constructor.name, error.status];
      }
    },
  },
  anthropic_node: {
    message: (to) => anthropic(to).messages.create({ model: to.claude, max_tokens: 50, messages: hello }),
    stream: async (to) => {
      const stream = anthropic(to).messages.stream({ model: to.claude, max_tokens: 50, messages: hello });
      const texts = [];
      stream.on("text", (text) => texts.push(text));
      return [await stream.finalMessage(), texts];
    },
    tools: (to) =>
      anthropic(to).messages.create({
        model: to.claude,
        max_tokens: 50,
        messages: hello,
        tools: [{ name: "weather", input_schema: parameters }],
      }),
    counted: (to) => anthropic(to).messages.countTokens({ model: to.claude, messages: hello }),
  },
  ollama_node: {
    chat: (to) => ollama(to).chat({ model: to.llama, messages: hello }),
    stream: async (to) => all(await ollama(to).chat({ model: to.llama, messages: hello, stream: true })),
    generate: (to) => ollama(to).generate({ model: to.llama, prompt: "Once upon a time" }),
    embed: (to) => ollama(to).embed({ model: to.llama, input: ["one", "two"] }),
  },
  vercel_ai: {
    text: async (to) => {
      const done = await generateText({ model: vercel(to)(to.chat), prompt: "Hello there, how are you?" });
      return [done.text, done.usage, done.finishReason];
    },
    stream: async (to) => {
      const done = streamText({ model: vercel(to)(to.chat), prompt: "Hello there, how are you?" });
      return [await all(done.textStream), await done.usage, await done.finishReason];
    },
    tool: async (to) => {
      const weather = tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "18 degrees" });
      const done = await generateText({ model: vercel(to)(to.chat), prompt: "Warm?", tools: { weather }, stopWhen: stepCountIs(3) });
      return [done.text, done.steps.length, done.steps[0].toolCalls.map((call) => [call.toolName, call.input])];
    },
    object: async (to) => {
      const done = await generateObject({ model: vercel(to)(to.chat), schema: z.object({ city: z.string() }), prompt: "Where?" });
      return [done.object, done.usage];
    },
    embeddings: async (to) => {
      const done = await embedMany({ model: vercel(to).textEmbeddingModel(to.embedding), values: ["one", "two"] });
      return [done.embeddings, done.usage];
    },
    of_anthropic: async (to) => {
      const claude = createAnthropic({ baseURL: `${to.anthropic_url}/v1`, apiKey: to.anthropic_key });
      const done = await generateText({ model: claude(to.claude), prompt: "Hello there" });
      return [done.text, done.usage, done.finishReason];
    },
  },
};

let text = "";
for await (const piece of process.stdin) text += piece;
const asked = JSON.parse(text);
const told = {};
for (const name of asked.clients) {
  told[name] = {};
  for (const [target, facts] of Object.entries(asked.targets)) {
    told[name][target] = {};
    for (const [scenario, run] of Object.entries(clients[name])) {
      try {
        told[name][target][scenario] = await run(facts);
      } catch (error) {
        console.error(`${name} ${target} ${scenario}:`, error);
        told[name][target][scenario] = { raised: error.constructor.name, status: error.status ?? error.statusCode ?? null };
      }
    }
  }
}
process.stdout.write(JSON.stringify(told));

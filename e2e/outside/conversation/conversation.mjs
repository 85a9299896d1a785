// How a story in Rust and a script here speak: a line of JSON at a time, over standard input and output. The first line
// in is what the script has to know; then it asks as often as it likes, and ends by saying what came of it.
//
//   in   {"issuer": …}                       settings
//   out  {"ask": {"browse": "https://…"}}    the story's user opens a URL in a browser
//   in   {"url": "https://…"}                and ends there
//   out  {"done": {…}}
import { createInterface } from 'node:readline'

const input = createInterface({ input: process.stdin })
const lines = input[Symbol.asyncIterator]()

async function hear() {
  const { value, done } = await lines.next()
  if (done) throw new Error('the story has ended')
  return JSON.parse(value)
}

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

export const settings = await hear()

export async function ask(question) {
  say({ ask: question })
  return hear()
}

export function done(result) {
  say({ done: result })
  input.close()
}

// The error that `attempt` ends with, for what must be refused.
export async function refusal(attempt) {
  try {
    await attempt()
  } catch (error) {
    const { name, code, error: answer, message, cause } = error
    return { name, code, error: answer, message, because: cause?.message }
  }
  throw new Error('it was not refused')
}

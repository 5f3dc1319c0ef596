// Follow the pool: server-sent events, read by fetch, which unlike EventSource can send a token.

export class Refused extends Error {}

const RETRY_S = [0.5, 1, 2, 5];

export async function follow(token, { told, lost, refused, closed }) {
  for (let attempt = 0; ; attempt += 1) {
    let isFirst = true; // A connection begins with all that is known.
    try {
      await once(token, (event, data) => {
        attempt = 0;
        if (event === "told") {
          told(data, isFirst);
          isFirst = false;
        }
        if (event === "closed") throw new Refused("closed");
      });
      lost("the page's server closed the connection");
    } catch (error) {
      if (error instanceof Refused) {
        if (error.message === "closed") closed();
        else refused(error.message);
        return;
      }
      lost("the page's server does not answer");
    }
    await new Promise((go) => setTimeout(go, 1000 * RETRY_S[Math.min(attempt, RETRY_S.length - 1)]));
  }
}

async function once(token, take) {
  const answer = await fetch("stream", {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit",
  });
  if (answer.status === 401) throw new Refused("That is not this page's token.");
  if (!answer.ok) throw new Error(answer.statusText);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const name = lines.find((line) => line.startsWith("event: "));
      const data = lines.find((line) => line.startsWith("data: "));
      if (name && data) take(name.slice(7), JSON.parse(data.slice(6)));
    }
  }
}

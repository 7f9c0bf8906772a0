// Runs one scenario with the unmodified SDK and prints what its user sees, as one line of JSON.
import fs from "node:fs";
import OpenAI, { APIError, toFile } from "openai";

const [scenario, image, mask] = process.argv.slice(2);
const options = { model: "gpt-image-2", quality: "low", size: "1024x1024" };
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });

async function events(stream) {
  const seen = [];
  for await (const event of stream) {
    seen.push({ type: event.type, index: event.partial_image_index, usage: event.usage, image: event.b64_json });
  }
  return seen;
}

const images = (answer) => ({ images: answer.data.map((item) => item.b64_json), usage: answer.usage });

const scenarios = {
  generate: async () => images(await client.images.generate({ prompt: "a lighthouse", n: 4, ...options })),
  edit: async () =>
    images(await client.images.edit({ image: fs.createReadStream(image), prompt: "at night", ...options })),
  edit_several: async () =>
    images(
      await client.images.edit({
        image: [
          await toFile(fs.createReadStream(image), "first.png", { type: "image/png" }),
          await toFile(fs.readFileSync(image), "second.png", { type: "image/png" }),
          fs.createReadStream(image),
        ],
        mask: fs.createReadStream(mask),
        prompt: "together",
        n: 2,
        ...options,
      }),
    ),
  stream: async () =>
    events(await client.images.generate({ prompt: "slowly", stream: true, partial_images: 2, ...options })),
  stream_edit: async () =>
    events(
      await client.images.edit({
        image: fs.createReadStream(image),
        prompt: "slowly",
        stream: true,
        partial_images: 1,
        ...options,
      }),
    ),
  models: async () => {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    return { listed, one: (await client.models.retrieve("job:draft")).id };
  },
  headers: async () => {
    const { data, response, request_id } = await client.images.generate({ prompt: "x", ...options }).withResponse();
    return { cost: response.headers.get("x-gateway-cost"), id: request_id, own: data._request_id };
  },
  refused: async () => {
    const { headers, ...body } = JSON.parse(process.env.REQUEST);
    return images(await client.images.generate({ prompt: "x", ...options, ...body }, { headers }));
  },
};

try {
  console.log(JSON.stringify({ result: await scenarios[scenario]() }));
} catch (error) {
  if (!(error instanceof APIError)) throw error;
  const { status, code, type, param, requestID } = error;
  console.log(JSON.stringify({ error: { name: error.constructor.name, status, code, type, param, id: requestID } }));
}

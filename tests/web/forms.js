// FormData, and forms as bodies.
//
// In: `print`. Out: lines. Invariant: the same lines wherever there are web classes; `outside` is
// for where forms may be read from bodies, which queries refuse.
import { attempt, settled } from "./print.js";

const flat = async (form) => {
  const pairs = [];
  for (const [name, value] of form) {
    pairs.push(typeof value === "string" ? [name, value]
      : [name, value.name, value.type, value.size, await value.text()]);
  }
  return pairs;
};

const sample = () => {
  const form = new FormData();
  form.append("a", "1");
  form.append("a", "2\r\n3\n4");
  form.append("q\"uo\nte", "\u00fc");
  form.append("f", new Blob(["blob"], { type: "text/css" }));
  form.append("g", new File(["file"], "na\"me.txt", { lastModified: 5 }));
  form.append("h", new File([new Uint8Array([0, 13, 10, 45, 45])], "bytes"), "other");
  return form;
};

export default async function forms(print) {
  const form = sample();
  print(await flat(form), form.get("a"), form.getAll("a"), form.has("b"), form.get("b"));
  form.set("a", "3");
  form.delete("f");
  print([...form.keys()], form.get("g").lastModified, form.get("g") instanceof File);
  form.set("new", 7);
  form.set("h", new Blob([""]));
  print([...form.keys()], form.get("new"), form.get("h").name);
  form.forEach((value, name) => print(name, typeof value));
  for (const use of [() => form.append("a"), () => form.append("a", "b", "c"),
    () => new FormData(null), () => form.get(), () => FormData.prototype.get.call({}, "a")]) {
    attempt(print, use);
  }
  print(Object.prototype.toString.call(form), [...new FormData()]);
  const body = new Response(sample());
  const type = body.headers.get("content-type");
  const [, boundary] = /^multipart\/form-data; boundary=(.+)$/.exec(type);
  print((await body.text()).replaceAll(boundary, "BOUNDARY"));
}

export async function outside(print) {
  print(await flat(await new Response(sample()).formData()));
  const of = (body, type) => new Response(body, { headers: { "content-type": type } }).formData();
  const urlencoded = "application/x-www-form-urlencoded";
  print(await flat(await of("a=1&b=%20+c&a=&=d&e", urlencoded)));
  print(await flat(await new Response(new URLSearchParams({ a: "b c" })).formData()));
  const part = (text) => text.replaceAll("\n", "\r\n");
  const two = part('--x\nContent-Disposition: form-data; name="a"\n\nb\n--x\n'
    + 'content-disposition: form-data; name="f"; filename="n.txt"\nContent-Type: text/plain\n\n'
    + "line\n\nline\n--x--\n");
  print(await flat(await of(two, "multipart/form-data; boundary=x")));
  print(await flat(await of(two, 'Multipart/Form-Data; charset=utf-8; boundary="x"')));
  for (const [body, type] of [["a", "text/plain"], ["a", "multipart/form-data"],
    ["a", "multipart/form-data; boundary=x"], [two.slice(0, 60), "multipart/form-data; boundary=x"],
    [part("--x\n\nb\n--x--"), "multipart/form-data; boundary=x"]]) {
    await settled(print, of(body, type));
  }
  await settled(print, new Response(null).formData());
  const request = new Request("http://a", { method: "POST", body: sample() });
  print((await request.formData()).get("a"), request.bodyUsed);
}

// Sends what is dropped or chosen, and tells the page by which key it lies there.
const zone = element.querySelector(".az-drop");
const input = element.querySelector("input");
const status = element.querySelector("em");

function say(words, wrong) {
  status.textContent = words;
  zone.classList.toggle("az-wrong", Boolean(wrong));
}

async function send(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("file", file);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const most = Number(zone.dataset.most);
  const what = files.length === 1 ? files[0].name : `${files.length} files`;
  if (size > most) {
    return say(`${what} has ${Math.ceil(size / 1e6)} MB, and at most ${most / 1e6} MB are taken.`, true);
  }
  say(`Sending ${what} ...`);
  try {
    const address = `page/upload?name=${encodeURIComponent(files[0].name)}`;
    const answer = await fetch(address, { method: "POST", body: form, headers: { "X-Anatozoo": "page" } });
    const found = await answer.json();
    if (!answer.ok) return say(found.error, true);
    say(""); // what is shown, the answer says
    trigger("upload", { key: found.key });
  } catch (error) {
    say(`${what} could not be sent. Drop files, not folders, and see whether anatozoo still runs.`, true);
  }
}

input.addEventListener("change", () => {
  send([...input.files]);
  input.value = "";
});
zone.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") input.click();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.toggle("az-over", name === "dragover");
    if (name === "drop") send([...event.dataTransfer.files]);
  });
}

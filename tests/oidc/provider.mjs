// An OpenID provider on a free port, for the tests of signing in.
//
//   node provider.mjs FOLDER
//
// FOLDER has the package. Prints `listening on URL`; then reads a line from standard input, the
// address that people are sent back to, and prints `ready`. Whoever types a name is believed.
// Ends when its standard input does.
import http from "node:http";
import { createRequire } from "node:module";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const found = createRequire(`${folder}/package.json`).resolve("oidc-provider");
const { Provider } = await import(pathToFileURL(found));

const server = http.createServer();
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
console.log(`listening on ${issuer}`);

const lines = readline.createInterface({ input: process.stdin });
lines.once("line", (callback) => {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "ordu",
        client_secret: "the secret of the tests",
        redirect_uris: [callback],
        token_endpoint_auth_method: "client_secret_post",
      },
    ],
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ["the tests only"] },
  });
  server.on("request", provider.callback());
  console.log("ready");
});
lines.once("close", () => process.exit(0));

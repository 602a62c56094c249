/** Our name and version, as peers and `--version` see it. A test holds it equal to package.json and deno.json. */
export const version = "0.1.0";
export const software: string = `pipegate/${version}`;

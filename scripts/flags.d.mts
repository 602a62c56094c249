export const nodeFlags: readonly string[];
export const denoFlags: readonly string[];

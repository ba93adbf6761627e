// What the test needs of @clerk/nextjs, which wants all of Next.js beside it.
declare module "@clerk/nextjs/server" {
  export function auth(): Promise<{ userId: string | null }>;
}

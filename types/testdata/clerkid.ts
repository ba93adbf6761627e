// Printed by: clerksync types --format typescript. Print it anew when the map changes.

/**
 * A document that clerksync has written, in the collection members.
 * What is readonly it keeps up to date, and the app changes none of it.
 * A document that it has not written yet is a Partial<User>.
 * _id is an ObjectId, which mongoose and the driver add to the type themselves.
 */
export interface User {
  /** Clerk's id of the user */
  readonly clerkId: string;
  /** the first and the last name */
  readonly name?: string;
  /** the picture; Clerk makes one if the user has none */
  readonly image?: string;
  /** the primary e-mail address */
  readonly email: string | null;
  /** unique, and never empty */
  readonly handle: string;
  /** public_metadata.role of Clerk's user; set once by clerksync, then yours */
  role?: unknown;
  /** a constant; set once by clerksync, then yours */
  isActive?: boolean;
  /** when clerksync has made the document; set once by clerksync, then yours */
  createdAt?: Date;
  /** when clerksync has last changed the document */
  readonly updatedAt: Date;
  readonly _clerk: {
    /** the order of Clerk's changes */
    readonly version: string;
    /** the map that it was written by */
    readonly map?: string;
    /** when the user signed up at Clerk */
    readonly created_at?: Date;
    /** when clerksync last wrote the document */
    readonly synced_at: Date;
    /** banned at Clerk: check it where you let users in */
    readonly banned: boolean;
    /** locked at Clerk, after failed sign-ins for example */
    readonly locked: boolean;
    /** removed by a directory (SCIM): check it likewise */
    readonly deprovisioned: boolean;
    /** the primary e-mail address is verified */
    readonly email_verified: boolean;
  };

  // Fields of your own, such as
  // plan?: string;
}

// Printed by: clerksync types --format typescript. Print it anew when the map changes.

/**
 * A document that clerksync has written, in the collection users.
 * What is readonly it keeps up to date, and the app changes none of it.
 * A document that it has not written yet is a Partial<User>.
 */
export interface User {
  /** Clerk's id of the user */
  readonly _id: string;
  /** the primary e-mail address */
  readonly email?: string;
  /** the first and the last name */
  readonly full_name: string;
  /** the picture; Clerk makes one if the user has none */
  readonly profile_picture: string;
  /** unique, and never empty */
  readonly username: string;
  readonly clerk: {
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

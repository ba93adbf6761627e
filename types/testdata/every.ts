// Printed by: clerksync types --format typescript. Print it anew when the map changes.

/**
 * A document that clerksync has written, in the collection every.
 * What is readonly it keeps up to date, and the app changes none of it.
 * A document that it has not written yet is a Partial<User>.
 * _id is an ObjectId, which mongoose and the driver add to the type themselves.
 */
export interface User {
  /** Clerk's id of the user */
  readonly uid: string;
  /** public_metadata of Clerk's user */
  readonly f0?: unknown;
  /** public_metadata of Clerk's user */
  readonly f1: unknown;
  /** public_metadata of Clerk's user */
  readonly f2: unknown;
  /** public_metadata of Clerk's user; set once by clerksync, then yours */
  f3?: unknown;
  /** "public_metadata.a b.\n* /\u2028 of Clerk's user" */
  readonly f4?: unknown;
  /** "public_metadata.a b.\n* /\u2028 of Clerk's user" */
  readonly f5: unknown;
  /** "public_metadata.a b.\n* /\u2028 of Clerk's user" */
  readonly f6: unknown;
  /** "public_metadata.a b.\n* /\u2028 of Clerk's user; set once by clerksync, then yours" */
  f7?: unknown;
  /** unsafe_metadata.x of Clerk's user */
  readonly f8?: unknown;
  /** unsafe_metadata.x of Clerk's user */
  readonly f9: unknown;
  /** unsafe_metadata.x of Clerk's user */
  readonly f10: unknown;
  /** unsafe_metadata.x of Clerk's user; set once by clerksync, then yours */
  f11?: unknown;
  /** Clerk's id of the user */
  readonly f12: string;
  /** Clerk's id of the user */
  readonly f13: string;
  /** Clerk's id of the user */
  readonly f14: string;
  /** Clerk's id of the user; set once by clerksync, then yours */
  f15?: string;
  /** the first name */
  readonly f16?: string;
  /** the first name */
  readonly f17: string | null;
  /** the first name */
  readonly f18: string;
  /** the first name; set once by clerksync, then yours */
  f19?: string;
  /** the last name */
  readonly f20?: string;
  /** the last name */
  readonly f21: string | null;
  /** the last name */
  readonly f22: string;
  /** the last name; set once by clerksync, then yours */
  f23?: string;
  /** the first and the last name */
  readonly f24?: string;
  /** the first and the last name */
  readonly f25: string | null;
  /** the first and the last name */
  readonly f26: string;
  /** the first and the last name; set once by clerksync, then yours */
  f27?: string;
  /** Clerk's own user name */
  readonly f28?: string;
  /** Clerk's own user name */
  readonly f29: string | null;
  /** Clerk's own user name */
  readonly f30: string;
  /** Clerk's own user name; set once by clerksync, then yours */
  f31?: string;
  /** the primary e-mail address */
  readonly f32?: string;
  /** the primary e-mail address */
  readonly f33: string | null;
  /** the primary e-mail address */
  readonly f34: string;
  /** the primary e-mail address; set once by clerksync, then yours */
  f35?: string;
  /** whether the primary e-mail address is verified */
  readonly f36: boolean;
  /** whether the primary e-mail address is verified */
  readonly f37: boolean;
  /** whether the primary e-mail address is verified */
  readonly f38: boolean;
  /** whether the primary e-mail address is verified; set once by clerksync, then yours */
  f39?: boolean;
  /** the primary phone number, in E.164 */
  readonly f40?: string;
  /** the primary phone number, in E.164 */
  readonly f41: string | null;
  /** the primary phone number, in E.164 */
  readonly f42: string;
  /** the primary phone number, in E.164; set once by clerksync, then yours */
  f43?: string;
  /** whether the primary phone number is verified */
  readonly f44: boolean;
  /** whether the primary phone number is verified */
  readonly f45: boolean;
  /** whether the primary phone number is verified */
  readonly f46: boolean;
  /** whether the primary phone number is verified; set once by clerksync, then yours */
  f47?: boolean;
  /** the picture; Clerk makes one if the user has none */
  readonly f48?: string;
  /** the picture; Clerk makes one if the user has none */
  readonly f49: string | null;
  /** the picture; Clerk makes one if the user has none */
  readonly f50: string;
  /** the picture; Clerk makes one if the user has none; set once by clerksync, then yours */
  f51?: string;
  /** whether the user has a picture that Clerk did not make */
  readonly f52: boolean;
  /** whether the user has a picture that Clerk did not make */
  readonly f53: boolean;
  /** whether the user has a picture that Clerk did not make */
  readonly f54: boolean;
  /** whether the user has a picture that Clerk did not make; set once by clerksync, then yours */
  f55?: boolean;
  /** the app's own id of the user, as Clerk keeps it */
  readonly f56?: string;
  /** the app's own id of the user, as Clerk keeps it */
  readonly f57: string | null;
  /** the app's own id of the user, as Clerk keeps it */
  readonly f58: string;
  /** the app's own id of the user, as Clerk keeps it; set once by clerksync, then yours */
  f59?: string;
  /** the language, such as de-CH */
  readonly f60?: string;
  /** the language, such as de-CH */
  readonly f61: string | null;
  /** the language, such as de-CH */
  readonly f62: string;
  /** the language, such as de-CH; set once by clerksync, then yours */
  f63?: string;
  /** whether a second factor is set up */
  readonly f64: boolean;
  /** whether a second factor is set up */
  readonly f65: boolean;
  /** whether a second factor is set up */
  readonly f66: boolean;
  /** whether a second factor is set up; set once by clerksync, then yours */
  f67?: boolean;
  /** whether the user is banned */
  readonly f68: boolean;
  /** whether the user is banned */
  readonly f69: boolean;
  /** whether the user is banned */
  readonly f70: boolean;
  /** whether the user is banned; set once by clerksync, then yours */
  f71?: boolean;
  /** whether the user is locked */
  readonly f72: boolean;
  /** whether the user is locked */
  readonly f73: boolean;
  /** whether the user is locked */
  readonly f74: boolean;
  /** whether the user is locked; set once by clerksync, then yours */
  f75?: boolean;
  /** whether a directory (SCIM) has removed the user */
  readonly f76: boolean;
  /** whether a directory (SCIM) has removed the user */
  readonly f77: boolean;
  /** whether a directory (SCIM) has removed the user */
  readonly f78: boolean;
  /** whether a directory (SCIM) has removed the user; set once by clerksync, then yours */
  f79?: boolean;
  /** when the user signed up at Clerk */
  readonly f80?: Date;
  /** when the user signed up at Clerk */
  readonly f81: Date | null;
  /** when the user signed up at Clerk */
  readonly f82: Date | string;
  /** when the user signed up at Clerk; set once by clerksync, then yours */
  f83?: Date;
  /** when Clerk changed the user */
  readonly f84?: Date;
  /** when Clerk changed the user */
  readonly f85: Date | null;
  /** when Clerk changed the user */
  readonly f86: Date | string;
  /** when Clerk changed the user; set once by clerksync, then yours */
  f87?: Date;
  /** when the user signed in */
  readonly f88?: Date;
  /** when the user signed in */
  readonly f89: Date | null;
  /** when the user signed in */
  readonly f90: Date | string;
  /** when the user signed in; set once by clerksync, then yours */
  f91?: Date;
  /** when the user accepted the terms */
  readonly f92?: Date;
  /** when the user accepted the terms */
  readonly f93: Date | null;
  /** when the user accepted the terms */
  readonly f94: Date | string;
  /** when the user accepted the terms; set once by clerksync, then yours */
  f95?: Date;
  /** when clerksync has last changed the document */
  readonly f96: Date;
  /** when clerksync has last changed the document */
  readonly f97: Date;
  /** when clerksync has last changed the document */
  readonly f98: Date;
  /** when clerksync has made the document; set once by clerksync, then yours */
  f99?: Date;
  /** a constant */
  readonly f100: string;
  /** a constant */
  readonly f101: boolean;
  /** a constant */
  readonly f102: number;
  /** a constant */
  readonly f103: number;
  /** a constant */
  readonly f104: number;
  /** a constant */
  readonly f105: Date;
  /** a constant */
  readonly f106: unknown;
  /** a constant */
  readonly f107: unknown;
  /** a constant */
  readonly f108: unknown;
  readonly sync: {
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

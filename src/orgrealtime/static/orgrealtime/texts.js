/**
 * What `<org-room>` says in English. Loaded where the page doesn't say all of it itself; in braces what is put in.
 *
 * @module orgrealtime/texts
 */

/** @type {Readonly<Record<string, string>>} */
export const TEXTS = Object.freeze({
  title: "Messages",
  field: "Write a message",
  send: "Send",
  user: "User {id}",
  system: "System",
  empty: "Nothing has been said here yet.",
  beginning: "This is where the room begins.",
  loading: "Loading …",
  newMessages: "New messages",
  news: "New messages: {count}",
  latest: "To the newest",
  deleted: "This message was deleted.",
  edited: "edited",
  pending: "Sending …",
  retry: "Try again",
  discard: "Discard",
  typing: "{names} is typing …",
  typingMany: "{names} are typing …",
  others: "{count} others",
  // What one can do with a message.
  reply: "Reply",
  edit: "Edit",
  delete: "Delete",
  confirm: "Really delete?",
  react: "React with {emoji}",
  editing: "You are editing a message.",
  replying: "Reply to {name}",
  cancel: "Cancel",
  // Why nothing comes, or something isn't done: by the code of the error. Of other codes the server's text is shown.
  waiting: "Not connected. What you write is sent when the connection is back.",
  offline: "You are offline. What you write is sent when you are back.",
  stopped: "Live updates have ended. Reload the page to go on.",
  unauthenticated: "You have been signed out.",
  archived: "This room is archived.",
  forbidden: "You have no access here.",
  conflict: "It has been changed meanwhile.",
  too_long: "A message has at most {limit} characters.",
  rate_limited: "Too many messages. This one is sent in {seconds} s.",
  slow_mode: "This room is slow. This message is sent in {seconds} s.",
  unavailable: "The server isn't reached. It is tried again.",
});

/** Every word of the interface that does not come from the study file. */

export const words = {
  withdraw: "Withdraw",
  progress: (done: number, count: number) => `${done} of ${count}`,
  loading: "Loading…",
  consent: { accept: "I agree and want to take part", decline: "I do not want to take part" },
  declined: {
    title: "You have chosen not to take part",
    body: "That is perfectly fine. Nothing about you was kept. You can close this window.",
  },
  next: "Continue",
  back: "Back",
  start: "Start",
  contact: "Questions? Write to",
  practice: {
    first: {
      title: "First, a little practice",
      body: "A few easy questions show you how it works. You are told the right answer after each one.",
    },
    again: {
      title: "Almost there: once more",
      body: "Not every answer was right. Please go through the practice again; you will be told the right answer each time.",
    },
    over: { title: "Practice is over", body: "From now on you are not told whether an answer is right. **Take your time and look closely.**" },
  },
  train: {
    intro: (session: number, of: number, count: number) => ({
      title: of > 1 ? `Round ${session} of ${of}: learn` : "Learn",
      body: `You will see ${count} pictures, each with the answer that the machine gave. Try to find out **how the machine decides**.`,
    }),
    heading: "Watch what the machine answers",
    answer: "The machine answered",
    explanation: "What mattered to the machine",
    picture: "The picture",
  },
  test: {
    intro: (session: number, of: number, count: number, reservoir: boolean) => ({
      title: of > 1 ? `Round ${session} of ${of}: predict` : "Predict",
      body:
        `Now you will see ${count} new pictures. For each one, say what **the machine** will answer, even where you would answer otherwise.` +
        (reservoir ? "\n\nThe pictures you have learnt from stay within reach." : ""),
    }),
    heading: "What will the machine answer?",
    keys: "Keys: F for the left answer, J for the right one, or the arrow keys.",
  },
  block: {
    intro: (session: number, of: number, count: number) => ({
      title: of > 1 ? `Part ${session} of ${of}` : "Ready?",
      body: `${count} question${count === 1 ? "" : "s"} follow${count === 1 ? "s" : ""}. **Take your time and look closely.**`,
    }),
  },
  feedback: {
    right: "Right",
    wrong: "Not this time",
    answer: "The machine answers",
    saving: "Checking…",
  },
  reservoir: {
    title: "Pictures you have learnt from",
    hint: "Choose one to look closer.",
    open: (count: number) => `Look back at ${count} example${count === 1 ? "" : "s"}`,
    close: "Close",
    item: (i: number, predicted: string) => `Example ${i}: the machine answered ${predicted}. Look closer.`,
  },
  position: (session: number, of: number, index: number, count: number, practice: boolean) =>
    practice ? `Practice · picture ${index} of ${count}` : `${of > 1 ? `Round ${session} of ${of} · p` : "P"}icture ${index} of ${count}`,
  alt: {
    picture: "Picture of this trial",
    explanation: "The same picture, with the places that mattered to the machine",
    example: (i: number) => `Example ${i}`,
  },
  pictureFailed: {
    title: "This picture could not be loaded",
    body: "Your answers so far are safe. Please check your connection, then try again.",
    retry: "Try again",
  },
  welcomeBack: { title: "Welcome back", body: "Your answers so far are safe. You go on where you stopped." },
  saving: {
    title: "Saving your answers",
    left: (n: number) => (n === 0 ? "Almost done. Please do not close this window." : `Saving… ${n} left. Please do not close this window.`),
    stuck: "This takes longer than it should. Please keep this window open: it goes on trying.",
    manual: "If you cannot wait, use this code instead. A person will check your answers, and you will not go unpaid.",
    unreachable: "If you cannot wait, save the copy below and send it to the contact address. You will not go unpaid. Your session:",
    backup: "Download a copy of the unsaved answers",
  },
  code: {
    title: "Thank you!",
    body: "All your answers are saved. This is your completion code:",
    copy: "Copy the code",
    copied: "Copied",
    onward: "Go back to the recruitment site",
    close: "You can close this window now.",
  },
  leave: {
    title: "Withdraw from the study?",
    body: "You may stop at any time, without giving a reason. **Everything you have answered so far is deleted** and you cannot come back to this study.",
    reason: "Reason (if you want to tell us)",
    stay: "Keep going",
    go: "Withdraw and delete my answers",
    failed: "That did not reach the server. Please try again.",
    done: { title: "You have withdrawn", body: "Your answers were deleted. You can close this window." },
  },
  elsewhere: {
    title: "This study is open in another window",
    body: "Please go on there, or close the other window: this page continues by itself.",
  },
  trouble: { title: "Something is in the way", retry: "Try again", link: "Please open the link to this study again, the one that you were given." },
  offline: "No connection. You can go on; your answers are kept on this device.",
} as const;

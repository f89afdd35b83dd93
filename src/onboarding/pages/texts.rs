//! What the pages say. English; another language is another file like this one.

pub(super) const CONNECT: &str = "Connect your car";
pub(super) const CONNECT_INTRO: &str = "This application receives data from your car while you allow it. These groups of data are wanted, and nothing else:";
pub(super) const CONNECT_SELECT: &str =
    "On the next page, of the car's maker, nothing is ticked beforehand. Press Select All, then Allow.";
pub(super) const CONNECT_BUTTON: &str = "Go on to the car's maker";
pub(super) const CONNECT_BACK: &str = "You can take all of it back at any time: here, and at the car's maker.";
pub(super) const HOME: &str = "Whether the car is at home, at work or at a favourite place needs no permission for location, and does tell when somebody \
     is at home.";

pub(super) const VEHICLES: &str = "Your cars";
pub(super) const VEHICLES_INTRO: &str = "Each car is set up by itself. What is next:";
pub(super) const VEHICLES_NONE: &str = "There is no car in your account.";
pub(super) const VEHICLES_AGAIN: &str = "Some of what is needed was not allowed:";
pub(super) const VEHICLES_ASK_AGAIN: &str = "Ask again";
pub(super) const NEXT_PAIR: &str = "Add the key";
pub(super) const NEXT_START: &str = "Start sending";
pub(super) const WITHDRAW: &str = "Take it back";

pub(super) const PAIR: &str = "Add the key to your car";
pub(super) const PAIR_DONE: &str = "Done. The car has the key.";
pub(super) const PAIR_WAITING: &str =
    "Waiting for the car. This page says when it is done; there is no way back here from the app.";
pub(super) const PAIR_BUTTON: &str = "Open the app";
pub(super) const PAIR_CODE: &str = "Code with the link, for the camera of the phone";
pub(super) const PAIR_RELOAD: &str = "Look again";
pub(super) const PAIR_BEFORE: [&str; 4] = [
    "The phone has the car maker's app, signed in to the account that you have just allowed this with.",
    "The phone is a key of this car already. You need not stand at the car for this.",
    "With several cars: the right one is selected in the app.",
    "The car is online.",
];
pub(super) const PAIR_STEPS: [&str; 3] = [
    "Scan the code with the phone's camera, or press the button on the phone itself.",
    "The app shows the name of this application's domain and asks to finish the set-up. Approve.",
    "Come back to this page.",
];
pub(super) const PAIR_ELSE: [(&str, &str); 4] = [
    (
        "The app says that access was not granted",
        "it is signed in to another account than the one that you have allowed this with",
    ),
    ("The app says that the application is not registered", "that is ours to mend; tell us"),
    (
        "The app says that you need no key for this car",
        "an older Model S or X: switch on Controls, Safety, Allow Third-Party App Data Streaming in the car",
    ),
    ("A lease or company car", "the account that owns the car may have to do this step"),
];

pub(super) const STARTED: &str = "The car was told. It sends as soon as it is awake.";
pub(super) const NOT_STARTED: &str = "The car was not told";

pub(super) const WITHDRAW_INTRO: &str = "The car is told to send nothing more, then what is known here of it and of your account is deleted. Your other cars stay.";
pub(super) const WITHDRAW_BUTTON: &str = "Take it back";
pub(super) const WITHDRAWN: &str = "Taken back";
pub(super) const WITHDRAWN_TEXT: &str =
    "The car was told to send nothing more, and nothing of it is shown or passed on from now on.";
pub(super) const WITHDRAWN_KEY: &str =
    "Only you can take the key off the car: in the car, Controls, Locks, with a key card.";
pub(super) const WITHDRAWN_CONSENT: &str = "Withdraw at the car's maker as well";

pub(super) const AGAIN: &str = "Begin again";
pub(super) const TROUBLE: &str = "That did not work";
pub(super) const SIGNED_OUT: &str = "You are not connected in this browser, or not any more.";
